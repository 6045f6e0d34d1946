"""What is on Drive is whole and of this version; a mount that is lost stops nothing."""

import errno
import multiprocessing
import os
import shutil
import signal
from pathlib import Path

import pytest

from sepkit.data.build import build_cache
from sepkit.data.cache import CacheSettings
from sepkit.data.songs import find_songs
from sepkit.storage import Root, copying, sync
from sepkit.storage import drive as drive_module

FILES = (
    "budget.csv",
    "runs/Base-s0/best.ckpt",
    "runs/Base-s0/last.ckpt",
    "runs/Base-s0/status.json",
    "runs/Base-s0-f1/last.ckpt",
    "results/Base-s0.museval.json",
    "report/figures/scores.png",
    "cache/wave-0123/A - B.h5",
)
RECORDS = (".synced.json", ".sepkit-copy", ".whole.json")
LOST = OSError(errno.ENOTCONN, "Transport endpoint is not connected")


@pytest.fixture
def root(tmp_path):
    for name in FILES:
        file = tmp_path / "root" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        if name != "budget.csv":
            file.write_bytes(name.encode() * 1000)
    root = Root.open(tmp_path / "root")
    root.add_minutes(run="Base-s0", stage="train", minutes=1.0, device="cpu", gpu_attached=False)
    return root


@pytest.fixture
def drive(tmp_path):
    return tmp_path / "drive"


@pytest.fixture(autouse=True)
def pauses(monkeypatch):
    """The pauses between tries, which nobody waits for."""
    made = []
    monkeypatch.setattr(copying.time, "sleep", made.append)
    return made


@pytest.fixture
def push(root, drive):
    return lambda **options: drive_module.push(root, drive, **options)


def content(folder):
    """Every file but the records of syncs."""
    files = [file for file in folder.rglob("*") if file.is_file() and file.name not in RECORDS]
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in files}


def test_what_is_pushed_comes_back_on_a_fresh_machine(root, drive, push, tmp_path):
    result = push()
    assert result.safe
    assert sorted(result.copied) == sorted(FILES)
    assert content(drive) == content(root.path)
    fresh = Root.open(tmp_path / "fresh")
    assert sorted(drive_module.pull(fresh, drive).copied) == sorted(FILES)
    assert content(fresh.path) == content(root.path)
    again = drive_module.push(fresh, drive)  # the pulled files are known to be the ones on Drive
    assert again.safe
    assert again.copied == []


def test_only_what_is_new_or_changed_is_copied(root, push, monkeypatch):
    push()
    (root.path / "runs/Base-s0/last.ckpt").write_bytes(b"one epoch more")
    (root.path / "scoreboard.csv").write_text("run\n")
    read = []
    digest = copying.digest
    for module in (copying, sync):
        monkeypatch.setattr(module, "digest", lambda path: read.append(path) or digest(path))
    assert push().copied == ["runs/Base-s0/last.ckpt", "scoreboard.csv"]
    assert len(read) == 6  # here, and what is sent and what arrives; sizes and times tell of the other files
    assert push().copied == []


@pytest.mark.parametrize("step_ns", [2 * 10**6, -(10**9)])
def test_a_checkpoint_of_the_same_size_and_second_is_a_new_version(root, drive, push, step_ns):
    file = root.path / "runs/Base-s0/last.ckpt"
    push()
    time_ns = file.stat().st_mtime_ns
    file.write_bytes(bytes(file.stat().st_size))
    os.utime(file, ns=(time_ns, time_ns + step_ns))
    assert push().copied == ["runs/Base-s0/last.ckpt"]
    assert (drive / "runs/Base-s0/last.ckpt").read_bytes() == file.read_bytes()


@pytest.mark.parametrize("kept", ["coarsely", "not at all"])
def test_a_destination_without_exact_times_is_compared_by_content(root, drive, push, monkeypatch, kept):
    utime = os.utime

    def coarse(path, ns):
        if kept == "not at all":
            raise PermissionError(errno.EPERM, "Operation not permitted")
        utime(path, ns=tuple(time // (2 * 10**9) * 2 * 10**9 for time in ns))

    monkeypatch.setattr(copying.os, "utime", coarse)
    assert push().safe
    assert push().copied == []
    file = root.path / "runs/Base-s0/last.ckpt"
    file.write_bytes(bytes(file.stat().st_size))
    assert push().copied == ["runs/Base-s0/last.ckpt"]
    assert (drive / "runs/Base-s0/last.ckpt").read_bytes() == file.read_bytes()


def test_a_mount_lost_on_the_way_pauses_and_the_next_push_completes(root, drive, push, pauses, monkeypatch):
    """S38."""
    copy, calls = shutil.copyfile, []

    def copyfile(source, destination):
        calls.append(source)
        if len(calls) > 3:
            raise LOST
        return copy(source, destination)

    monkeypatch.setattr(copying.shutil, "copyfile", copyfile)
    result = push()
    assert not result.safe
    assert result.copied == ["budget.csv", "runs/Base-s0-f1/last.ckpt"]  # of Base-s0 all, or nothing
    assert len(calls) == 3 + copying.TRIES  # one file is tried again, the others wait
    assert len(pauses) == copying.TRIES - 1
    assert sorted([*result.copied, *result.failed]) == sorted(FILES)
    assert str(result).startswith("NOT safe: 6 files are not copied")
    assert "107" in str(result)
    assert content(drive) == {name: content(root.path)[name] for name in result.copied}
    monkeypatch.setattr(copying.shutil, "copyfile", copy)
    later = push()
    assert later.safe
    assert sorted(later.copied) == sorted(result.failed)
    assert content(drive) == content(root.path)


def test_a_drive_that_can_not_even_be_listed_is_told_and_raises_nothing(root, drive, push, monkeypatch):
    push()

    def failing(call):
        def on_drive(path, *arguments, **options):
            if path.is_relative_to(drive):
                raise LOST
            return call(path, *arguments, **options)

        return on_drive

    for name in ("exists", "mkdir", "stat", "glob"):
        monkeypatch.setattr(Path, name, failing(getattr(Path, name)))
    assert list(drive_module.push(root, drive).failed) == ["budget.csv"]  # all else is there since the first push
    assert not drive_module.pull(root, drive).safe


def test_without_the_mount_no_local_folder_stands_in_for_it(root, tmp_path):
    drive = tmp_path / "content" / "drive" / "MyDrive" / "sepkit"
    result = drive_module.push(root, drive)
    assert not result.safe
    assert sorted(result.failed) == sorted(FILES)
    assert "Drive is not mounted" in str(result)
    assert not (tmp_path / "content").exists()
    assert not drive_module.pull(root, drive).safe
    drive.parent.mkdir(parents=True)
    assert drive_module.pull(root, drive).safe  # the first day: the first push makes the copy
    assert drive_module.push(root, drive).safe


def test_a_file_that_is_gone_meanwhile_is_no_lost_mount(root, drive, push, monkeypatch):
    """As the journal of scores, which scores.csv replaces."""
    listed, gone = drive_module._files, {"runs/Base-s0-f1/gone.jsonl": (9, 9), "results/gone.json": (9, 9)}

    def files(folder, only=None):
        return listed(folder, only) | (gone if folder == root.path else {})

    monkeypatch.setattr(drive_module, "_files", files)
    result = push()
    assert result.safe
    assert sorted(result.copied) == sorted(FILES)


@pytest.mark.parametrize("fault", ["size", "bytes", "content"])
def test_what_arrives_cut_short_is_copied_again_and_verified(root, drive, push, pauses, monkeypatch, fault):
    """S40: the destination shows half a file, no bytes, or other bytes, at the first two checks."""
    copy, stat, faults = shutil.copyfile, Path.stat, [fault] * 2

    def copyfile(source, destination):
        copy(source, destination)
        if faults and fault != "size":
            faults.pop()
            data = destination.read_bytes()
            destination.write_bytes(data[: len(data) // 2] if fault == "bytes" else bytes(len(data)))

    def shown(path, **options):
        found = stat(path, **options)
        if path.name.endswith(".part") and faults and fault == "size":
            faults.pop()
            return os.stat_result([*found[:6], 0, *found[7:]])
        return found

    monkeypatch.setattr(copying.shutil, "copyfile", copyfile)
    monkeypatch.setattr(Path, "stat", shown)
    result = push()
    assert result.safe
    assert len(pauses) == 2
    assert content(drive) == content(root.path)


def test_what_never_arrives_whole_is_not_safe(root, drive, push, monkeypatch):
    monkeypatch.setattr(copying.shutil, "copyfile", lambda source, destination: Path(destination).write_bytes(b"stub"))
    result = push()
    assert not result.safe
    assert "4 of" in str(result)
    assert list(content(drive)) == ["budget.csv"]  # whose rows are appended, and read back


def _push_and_die(root, drive):
    def copyfile(source, destination):
        data = Path(source).read_bytes()
        Path(destination).write_bytes(data[: len(data) // 2])
        os.kill(os.getpid(), signal.SIGKILL)

    copying.shutil.copyfile = copyfile
    drive_module.push(root, drive)


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_kill_in_the_middle_of_a_copy_leaves_the_old_file(root, drive, push):
    push()
    file = root.path / "runs/Base-s0/best.ckpt"
    old = file.read_bytes()
    file.write_bytes(b"new" * 5000)
    process = multiprocessing.get_context("fork").Process(target=_push_and_die, args=(root, drive))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert (drive / "runs/Base-s0/best.ckpt").read_bytes() == old
    assert len(content(drive)) == len(FILES) + 1
    fresh = Root.open(drive.with_name("fresh"))
    assert sorted(drive_module.pull(fresh, drive).copied) == sorted(FILES)  # half a copy is never pulled
    assert push().copied == ["runs/Base-s0/best.ckpt"]
    assert content(drive) == content(root.path)


def test_only_takes_whole_names_and_several(root, push):
    assert sorted(push(only="runs/Base-s0").copied) == [name for name in FILES if name.startswith("runs/Base-s0/")]
    assert push(only=("runs/Base-s0-f1/", "budget.csv")).copied == ["budget.csv", "runs/Base-s0-f1/last.ckpt"]


def test_pull_can_bring_back_one_run(push, drive, tmp_path):
    push()
    fresh = Root.open(tmp_path / "fresh")
    assert drive_module.pull(fresh, drive, only="runs/Base-s0-f1").copied == ["runs/Base-s0-f1/last.ckpt"]


def test_temporary_files_and_songs_stay_here(root, push):
    (root.path / "songs/train").mkdir(parents=True)
    (root.path / "songs/train/mixture.wav").touch()
    (root.path / "runs/Base-s0/.last.ckpt.123.part").touch()
    assert sorted(push().copied) == sorted(FILES)


def test_the_drive_is_the_one_that_the_environment_names(root, drive, monkeypatch):
    assert drive_module.push(root) is None
    assert drive_module.pull(root) is None
    monkeypatch.setenv("SEPKIT_DRIVE", str(drive))
    assert drive_module.push(root).safe
    assert content(drive) == content(root.path)


def test_a_cache_of_fifty_songs_is_fifty_files(make_mini, tmp_path):
    """S39: one file a song (85 MB for four minutes of the compact cache), never one a segment."""
    songs = make_mini(tmp_path / "songs", train=45, valid=2, test=3, seconds=0.1)
    root = Root.open(tmp_path / "root")
    build_cache(find_songs(songs), root, CacheSettings(), n_jobs=1)
    drive = tmp_path / "drive"
    assert drive_module.push(root, drive).safe
    assert len(list(drive.glob("cache/*/*"))) == 50 + 1  # and the manifest
