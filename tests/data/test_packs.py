"""A large cache on Drive is a few verified files, and comes back song by song; results come first."""

import errno
import multiprocessing
import os
import shutil
import signal

import pytest

import sepkit
from sepkit.data import packs
from sepkit.data.build import build_cache
from sepkit.data.cache import CacheSettings, track_file
from sepkit.data.opening import open_cache
from sepkit.data.songs import SPLITS, find_songs
from sepkit.errors import SepkitError
from sepkit.profiles import PROFILES
from sepkit.storage import Root, drive, sync

TWO = CacheSettings()


@pytest.fixture(scope="module")
def built(mini_songs, tmp_path_factory):
    """Two training songs, one of validation, one of test, 1.1 MB each; not to be changed."""
    root = Root.open(tmp_path_factory.mktemp("built"), "full")
    build_cache(find_songs(mini_songs), root, TWO, n_jobs=1)
    return root


@pytest.fixture
def root(built, tmp_path, monkeypatch):
    """The same, with a folder for Drive; two songs fit into a pack."""
    monkeypatch.setattr(packs, "PACK_BYTES", 2_500_000)
    for module in (packs, sync):
        monkeypatch.setattr(module, "PACK_ABOVE", 10**6)
    monkeypatch.setenv("SEPKIT_DRIVE", str(tmp_path / "drive"))
    return Root.open(shutil.copytree(built.path, tmp_path / "root"), "full")


@pytest.fixture
def fresh(tmp_path):
    return Root.open(tmp_path / "fresh", "full")


@pytest.fixture
def copied(monkeypatch):
    """The names of the packs that are copied, either way."""
    names, copy = [], packs.copy_file

    def copy_file(source, destination):
        names.append(next(path.name for path in (source, destination) if not path.name.startswith(".")))
        copy(source, destination)

    monkeypatch.setattr(packs, "copy_file", copy_file)
    return names


def open_without_songs(root, splits=SPLITS):
    return open_cache(PROFILES["full"], None, root, TWO, splits, "Training")


def cache_of(root):
    (folder,) = root.path.glob("cache/*")
    return folder


def on_drive(root):
    return drive.drive_folder(root) / "cache" / cache_of(root).name


def content(folder):
    return {file.name: file.read_bytes() for file in folder.glob("*") if file.name[0] != "."}


def test_a_cache_comes_back_from_a_few_packs(root, fresh, copied):
    name = cache_of(root).name
    assert packs.store(root) == f"the cache {name} is on Drive"
    there = {"manifest.json", "packs.json", "train-00.zip", "train-01.zip", "test-00.zip"}
    assert {file.name for file in on_drive(root).iterdir()} == there
    assert content(cache_of(root)) == content(cache_of(Root(open_without_songs(fresh).path.parents[1])))
    copied.clear()
    assert packs.store(root) == f"the cache {name} is on Drive"
    assert len(open_without_songs(fresh).songs) == 4
    assert not copied


def test_only_the_packs_that_are_needed_are_fetched(root, fresh, copied):
    """Scoring test songs does not fetch the others; a later training does."""
    packs.store(root)
    copied.clear()
    assert list(open_without_songs(fresh, ("test",)).songs) == ["T0 - Test"]
    assert copied == ["test-00.zip"]
    assert len(open_without_songs(fresh, ("train", "valid")).songs) == 3
    assert copied == ["test-00.zip", "train-00.zip", "train-01.zip"]


def test_doctor_is_content_with_test_songs_alone(root, fresh):
    """The others lie on Drive, and are fetched when they are needed."""
    packs.store(root)
    open_without_songs(fresh, ("test",))
    report = sepkit.doctor(root=fresh, profile="full")
    assert report.ok
    assert [problem.found for problem in report.problems] == ["4 songs, 1 of them here; train, valid, test whole"]


def killed(call, after):
    """Ends the process in the copy number `after` of the packs that `call` copies."""
    copy, calls = packs.copy_file, []

    def copy_and_die(source, destination):
        calls.append(1)
        copy(source, destination)
        if len(calls) == after:
            os.kill(os.getpid(), signal.SIGKILL)

    packs.copy_file = copy_and_die
    call()


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.parametrize("after", [1, 3])
def test_kills_while_packs_are_copied_lose_nothing(root, fresh, after):
    """Each way once: nothing that is not whole reads as whole, and the next call goes on."""
    fork = multiprocessing.get_context("fork")
    for call in (lambda: packs.store(root), lambda: open_without_songs(fresh)):
        process = fork.Process(target=killed, args=(call, after))
        process.start()
        process.join()
        assert process.exitcode == -signal.SIGKILL
        packs.store(root)
    assert content(open_without_songs(fresh).path) == content(cache_of(root))
    assert len(list(on_drive(root).glob("*.zip"))) == 3
    assert not [part for place in (root, fresh) for part in place.path.glob("cache/*/.*.part")]


def test_syncs_leave_packs_and_their_songs_alone(root, fresh):
    packs.store(root)
    before = content(on_drive(root))
    assert drive.push(root).safe
    assert content(on_drive(root)) == before
    assert drive.pull(fresh).safe
    assert not list(fresh.path.glob("cache/*/*"))


def test_the_local_disk_holds_one_pack_beside_the_cache(root, fresh, monkeypatch):
    most, copy = [], packs.copy_file

    def measured(source, destination):
        copy(source, destination)
        most.append(sum(1 for place in (root.path, fresh.path) for _ in place.glob("cache/*/.*.zip.*")))

    monkeypatch.setattr(packs, "copy_file", measured)
    packs.store(root)
    open_without_songs(fresh)
    assert set(most) == {1}
    assert not [*root.path.glob("cache/*/.*.zip*"), *fresh.path.glob("cache/*/.*.zip*")]


def test_results_keep_their_room(root, monkeypatch):
    monkeypatch.setattr(packs, "has_room", lambda folder, size: False)
    said = packs.store(root)
    assert "is not on Drive: its 0.00 GB would leave too little room for results" in said
    assert not list(on_drive(root).glob("*.zip"))


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.ENOTCONN])
def test_a_fault_is_said_and_the_next_call_goes_on(root, fresh, copied, monkeypatch, number):
    """A full Drive, one over its quota, a lost one, at the second pack: what is there is not copied again."""
    copy, calls = packs.copy_file, []

    def fail_once(source, destination):
        calls.append(destination)
        if len(calls) == 2:
            raise OSError(number, "fault")
        copy(source, destination)

    monkeypatch.setattr(packs, "copy_file", fail_once)
    assert f"(errno {number})" in packs.store(root)
    assert not (on_drive(root) / "manifest.json").exists()  # not a whole cache
    assert not list(root.path.glob("cache/*/.*.zip*"))
    with pytest.raises(SepkitError, match="needs MUSDB18-HQ"):
        open_without_songs(fresh)
    copied.clear()
    assert packs.store(root).endswith("is on Drive")
    assert copied == ["train-01.zip", "test-00.zip"]
    assert len(open_without_songs(fresh).songs) == 4


def test_a_pack_that_arrives_torn_is_copied_again(root, fresh, monkeypatch, capsys):
    packs.store(root)
    copy, torn = packs.copy_file, []

    def tear_once(source, destination):
        copy(source, destination)
        if not torn:
            torn.append(destination.write_bytes(destination.read_bytes()[:100_000]))

    monkeypatch.setattr(packs, "copy_file", tear_once)
    assert content(open_without_songs(fresh).path) == content(cache_of(root))
    assert "train-00.zip arrived torn; it is copied again" in capsys.readouterr().out


def test_a_pack_that_is_torn_on_drive_is_one_sentence_and_stored_anew(root, fresh):
    """Zeroes inside: its size is right.  Cut short, it is stored again by the next call where the songs are."""
    packs.store(root)
    pack = on_drive(root) / "train-00.zip"
    whole = pack.read_bytes()
    pack.write_bytes(whole[:600_000] + bytes(4096) + whole[604_096:])
    with pytest.raises(SepkitError, match=r"train-00\.zip on Drive holds other bytes than were written; delete it"):
        open_without_songs(fresh)
    assert list(open_without_songs(fresh, ("test",)).songs) == ["T0 - Test"]
    pack.write_bytes(whole[:1000])
    packs.store(root)
    assert len(open_without_songs(fresh).songs) == 4


def test_excluding_a_song_asks_for_no_new_pack(root, copied):
    packs.store(root)
    copied.clear()
    (root.path / "exclude.txt").write_text("A0 - Train\n")
    assert len(open_without_songs(root).songs) == 3
    packs.store(root)
    assert not copied


def test_a_song_that_was_built_anew_takes_its_pack_with_it(root, mini_songs, fresh, tmp_path, copied):
    """Only packs with other bytes than here are written again; the old ones go."""
    packs.store(root)
    copied.clear()
    manifest = packs.read_manifests(root.path)[cache_of(root).name]
    file = track_file(cache_of(root), "V0 - Valid")
    file.write_bytes(file.read_bytes() + b"newer")
    manifest["songs"]["V0 - Valid"] |= {"bytes": file.stat().st_size, "digest": packs.digest(file)}
    packs.write_json(cache_of(root) / "manifest.json", manifest)
    packs.store(root)
    assert copied == ["train-02.zip"]
    there = {file.name for file in on_drive(root).glob("*.zip")}
    assert there == {"train-00.zip", "train-02.zip", "test-00.zip"}


@pytest.mark.parametrize("above", [0, 10**9], ids=["packed", "song by song"])
@pytest.mark.parametrize("damage", ["zeroed", "gone"])
def test_a_damaged_song_is_fetched_from_drive(root, monkeypatch, above, damage):
    """S82: where there are no songs to build it from."""
    for module in (packs, sync):
        monkeypatch.setattr(module, "PACK_ABOVE", above)
    drive.push(root)
    packs.store(root)
    file = track_file(cache_of(root), "A1 - Train")
    whole = file.read_bytes()
    file.unlink()
    if damage == "zeroed":
        file.write_bytes(whole[:600_000] + bytes(4096) + whole[604_096:])
    assert len(open_without_songs(root).songs) == 4
    assert file.read_bytes() == whole


def test_a_disk_too_small_for_the_songs_is_one_sentence(root, fresh, monkeypatch):
    packs.store(root)
    monkeypatch.setattr(packs.shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10, 9, 1))
    with pytest.raises(SepkitError, match=r"need 0\.01 GB here, but .* has 0\.00 GB free; free some space"):
        open_without_songs(fresh)


def test_without_a_drive_nothing_is_stored(root, monkeypatch, tmp_path):
    monkeypatch.delenv("SEPKIT_DRIVE")
    assert packs.store(root) == ""
    monkeypatch.setenv("SEPKIT_DRIVE", str(tmp_path / "no" / "mount" / "drive"))
    assert "Drive is not mounted" in packs.store(root)
    assert not (tmp_path / "no").exists()
