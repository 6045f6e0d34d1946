"""Finding and reading songs: what a folder is not, the splits, the exclusion list, the samples."""

import os
import shutil
import sys
import unicodedata
from types import SimpleNamespace
from urllib.error import URLError

import numpy as np
import pytest
import soundfile as sf

from sepkit.data import locate
from sepkit.data.build import build_cache
from sepkit.data.cache import CacheSettings, track_file
from sepkit.data.songs import accompaniment, find_songs, musdb_validation_names, read_song
from sepkit.errors import SepkitError
from sepkit.profiles import PROFILES
from sepkit.storage import Root

STEMS = ("mixture", "vocals", "drums", "bass", "other")


def names(folder, split):
    return [track.name for track in folder.split(split)]


def missing(path):
    return path / "absent"


def empty(path):
    return path


def empty_splits(path):
    (path / "train").mkdir()
    (path / "test").mkdir()
    return path


def songs_without_files(path):
    (path / "train" / "A - B").mkdir(parents=True)
    return path


def zipped(path):
    (path / "musdb18hq.zip").touch()
    return path


def a_file(path):
    (path / "musdb18hq.zip").touch()
    return path / "musdb18hq.zip"


@pytest.mark.parametrize(
    ("place", "says"),
    [
        (missing, "does not exist"),
        (a_file, "is a file; unpack it first"),
        (empty, "found nothing"),
        (empty_splits, "copy songs there"),
        (songs_without_files, "copy songs there"),
        (zipped, "unpack the archive first"),
    ],
)
def test_where_there_are_no_songs_one_sentence_names_the_path(tmp_path, place, says):
    path = place(tmp_path)
    with pytest.raises(SepkitError) as caught:
        find_songs(path)
    assert str(path) in str(caught.value)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("below", "above", "says"),
    [
        ("train", "", "looks like a train or test folder itself: give its parent {mini}"),
        ("test", "", "looks like a train or test folder itself: give its parent {mini}"),
        ("train/A0 - Train", "", "looks like one song: give the folder that holds the songs, {mini}"),
        ("", "..", "lie one level deeper: give {mini}"),
    ],
)
def test_one_level_too_deep_or_too_high_is_told(mini_songs, below, above, says):
    path = (mini_songs / below / above).resolve()
    with pytest.raises(SepkitError) as caught:
        find_songs(path)
    assert "0 found" in str(caught.value)
    assert str(path) in str(caught.value)
    assert says.format(mini=mini_songs) in str(caught.value)


def test_both_layouts_in_one_folder_are_refused(make_mini, tmp_path):
    make_mini(tmp_path, 1, 0, 0)
    (tmp_path / "test").mkdir(exist_ok=True)
    (tmp_path / "test" / "X - Y.stem.mp4").touch()
    with pytest.raises(SepkitError, match=r"both 1 folders and 1 \.stem\.mp4 files"):
        find_songs(tmp_path)


def test_splits_come_from_validation_txt(mini_songs):
    folder = find_songs(mini_songs)
    assert (folder.layout, folder.split_by["valid"]) == ("wav", "named in validation.txt")
    assert folder.counts == {"train": 2, "valid": 1, "test": 1}
    assert names(folder, "valid") == ["V0 - Valid"]
    assert names(folder, "train") == ["A0 - Train", "A1 - Train"]
    assert folder.unknown == ()


def test_without_validation_txt_musdbs_own_list_decides(make_mini, tmp_path):
    folder = find_songs(make_mini(tmp_path, train=1, valid=2, test=1, musdb_names=True))
    assert folder.counts == {"train": 1, "valid": 2, "test": 1}
    assert set(names(folder, "valid")) < musdb_validation_names()
    assert len(musdb_validation_names()) == 14
    assert folder.split_by["valid"] == "MUSDB18's own"


def test_validation_txt_may_come_from_windows_and_misspellings_are_noticed(make_mini, tmp_path):
    make_mini(tmp_path, train=1, valid=2, test=1)
    (tmp_path / "validation.txt").write_bytes("\ufeffV0 - Valid \r\n\r\nT0 - Test\r\nV1 - Vlaid\r\n".encode())
    folder = find_songs(tmp_path)
    assert names(folder, "valid") == ["V0 - Valid"]
    assert folder.unknown == (
        ("validation.txt", "T0 - Test"),
        ("validation.txt", "V1 - Vlaid"),
    )  # a test song does not become a validation song


def test_stem_mp4_songs_are_found_without_decoding(tmp_path):
    for place in ("train/A - B", "train/Actions - One Minute Smile", "test/C - D"):
        file = tmp_path / f"{place}.stem.mp4"
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(b"not audio")
    folder = find_songs(tmp_path)
    assert folder.layout == "stem.mp4"
    assert folder.counts == {"train": 1, "valid": 1, "test": 1}
    assert names(folder, "train") == ["A - B"]


def test_hidden_folders_are_no_songs(make_mini, tmp_path):
    make_mini(tmp_path, 1, 0, 1)
    (tmp_path / "train" / ".ipynb_checkpoints").mkdir()
    (tmp_path / "test" / ".hidden.stem.mp4").touch()
    assert find_songs(tmp_path).counts == {"train": 1, "valid": 0, "test": 1}


def test_excluded_songs_lower_the_counts_and_unknown_names_are_noticed(mini_songs):
    folder = find_songs(mini_songs, ["A1 - Train", "T0 - Test", "Nobody - Nothing"])
    assert folder.counts == {"train": 1, "valid": 1, "test": 0}
    assert [track.name for track in folder.excluded] == ["A1 - Train", "T0 - Test"]
    assert folder.unknown == (("exclude.txt", "Nobody - Nothing"),)


def test_excluding_every_song_is_refused(mini_songs):
    everything = [track.name for track in find_songs(mini_songs).tracks]
    with pytest.raises(SepkitError, match=r"All 4 songs under .* are on the exclusion list"):
        find_songs(mini_songs, everything)


def test_reading_gives_every_sample_of_the_file(mini_songs):
    track = find_songs(mini_songs).tracks[0]
    audio, rate = read_song(track)
    assert rate == 44100
    assert tuple(audio) == STEMS
    for source in STEMS:
        expected = sf.read(track.path / f"{source}.wav", dtype="int16")[0].T
        assert audio[source].dtype == np.float32
        np.testing.assert_array_equal(audio[source] * 32768, expected)
    total = audio["vocals"] + accompaniment(audio)
    np.testing.assert_allclose(audio["mixture"], total, atol=1e-6)


def test_reading_a_slice_is_the_slice(mini_songs):
    track = find_songs(mini_songs).tracks[0]
    whole, part = read_song(track)[0], read_song(track, 1000, 3333)[0]
    for source in STEMS:
        np.testing.assert_array_equal(part[source], whole[source][:, 1000:3333])


def test_reading_changes_neither_rate_nor_channels(make_song, tmp_path):
    """S08: a 15 kHz tone survives, and the channels stay different."""
    song = make_song(tmp_path / "train" / "A - B")
    time = np.arange(3 * 44100) / 44100
    tone = np.stack([np.sin(2 * np.pi * 15000 * time), np.cos(2 * np.pi * 440 * time)])
    sf.write(song / "vocals.wav", 0.5 * tone.T, 44100, subtype="PCM_16")
    audio, rate = read_song(find_songs(tmp_path).tracks[0])
    assert rate == 44100
    np.testing.assert_allclose(audio["vocals"], 0.5 * tone, atol=2 / 32768)


@pytest.mark.parametrize("stem", STEMS)
def test_a_missing_stem_is_never_left_out(make_song, tmp_path, stem):
    """S03: no accompaniment without bass."""
    (make_song(tmp_path / "train" / "A - B") / f"{stem}.wav").unlink()
    make_song(tmp_path / "train" / "C - D")
    with pytest.raises(SepkitError, match=rf"A - B: There is no file .*{stem}\.wav"):
        read_song(next(track for track in find_songs(tmp_path).tracks if track.name == "A - B"))


def test_an_unreadable_stem_and_mixed_rates_are_named(make_song, tmp_path):
    song = make_song(tmp_path / "train" / "A - B")
    track = find_songs(tmp_path).tracks[0]
    (song / "drums.wav").write_bytes(b"RIFF, but not really")
    with pytest.raises(SepkitError, match=r"A - B: .*drums\.wav is not audio that can be read here"):
        read_song(track)
    sf.write(song / "drums.wav", np.zeros((48000 * 3, 2)), 48000)
    with pytest.raises(SepkitError, match="A - B: its stems have different sample rates"):
        read_song(track)


def test_locating_uses_the_folder_given_then_the_environment(mini_songs, tmp_path, monkeypatch):
    root = Root.open(tmp_path, "full")
    assert locate.locate_songs(PROFILES["full"], mini_songs, root).path == mini_songs
    monkeypatch.setenv("SEPKIT_DATA", str(mini_songs))
    assert locate.locate_songs(PROFILES["preview"], None, root).path == mini_songs
    with pytest.raises(SepkitError, match="does not exist"):
        locate.locate_songs(PROFILES["demo"], tmp_path / "absent", root)


def test_locating_leaves_out_what_exclude_txt_names(mini_songs, tmp_path):
    (tmp_path / "exclude.txt").write_text("# bleed\nA0 - Train  # drums in the vocals\n\n")
    folder = locate.locate_songs(PROFILES["full"], mini_songs, Root.open(tmp_path, "full"))
    assert folder.counts == {"train": 1, "valid": 1, "test": 1}


def test_the_full_profile_says_where_its_songs_come_from(tmp_path):
    with pytest.raises(SepkitError, match=r"fetch --profile full makes it; .* from https://zenodo.*--data"):
        locate.locate_songs(PROFILES["full"], None, Root.open(tmp_path, "full"))


@pytest.fixture
def musdb_downloads_by(monkeypatch):
    monkeypatch.setattr(locate, "require_ffmpeg", lambda: None)
    return lambda download: monkeypatch.setitem(sys.modules, "musdb", SimpleNamespace(DB=download))


def test_a_failed_download_names_address_folder_and_the_way_by_hand(tmp_path, musdb_downloads_by):
    """S11, and nothing half-made stays."""

    def refuse(root, download):
        (tmp_path / "seen").write_text(root)
        raise URLError("blocked")

    musdb_downloads_by(refuse)
    with pytest.raises(SepkitError) as caught:
        locate.locate_songs(PROFILES["preview"], None, Root.open(tmp_path, "preview"))
    assert (tmp_path / "seen").exists()
    for word in (locate.PREVIEW_URL, str(tmp_path / "songs"), "by hand", "blocked"):
        assert word in str(caught.value)
    assert not (tmp_path / "songs").exists()


def test_a_download_that_was_cut_off_is_begun_again(make_mini, tmp_path, musdb_downloads_by):
    def download(root, download):
        make_mini(tmp_path / root, 2, 1, 1)

    def die_half_way(root, download):
        make_mini(tmp_path / root, 1, 0, 1)
        raise KeyboardInterrupt

    root = Root.open(tmp_path, "preview")
    musdb_downloads_by(die_half_way)
    with pytest.raises(KeyboardInterrupt):
        locate.locate_songs(PROFILES["preview"], None, root)
    musdb_downloads_by(download)
    assert locate.locate_songs(PROFILES["preview"], None, root).counts == {"train": 2, "valid": 1, "test": 1}
    musdb_downloads_by(None)  # not asked for again
    assert sum(locate.locate_songs(PROFILES["preview"], None, root).counts.values()) == 4
    shutil.rmtree(tmp_path / "songs")


def bare(folder, *places):
    """Songs of empty files, which are enough to be found."""
    for place in places:
        song = folder / (os.fsdecode(place) if isinstance(place, bytes) else place)
        song.mkdir(parents=True)
        for stem in STEMS:
            (song / f"{stem}.wav").touch()
    return folder


def in_form(form, text):
    return unicodedata.normalize(form, text)


CAFE = "Café - One"
ENCODED = {
    "UTF-8 with a mark": "\ufeff{}\r\n".format,
    "Latin-1": lambda name: f"# ë\n{name}\n".encode("latin-1"),
    "UTF-16": lambda name: f"{name}\r\n".encode("utf-16"),
    "UTF-16, big-endian": lambda name: b"\xfe\xff" + f"{name}\r\n".encode("utf-16-be"),
    "UTF-16 without a mark": lambda name: f"{name}\r\n".encode("utf-16-le"),
    "in parts": lambda name: in_form("NFD", name),
}


@pytest.mark.parametrize("encoding", ENCODED)
@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_lists_of_songs_may_come_in_any_encoding(tmp_path, form, encoding):
    """S57, S56: as an older PowerShell, a spreadsheet or a Mac writes them."""
    songs = bare(tmp_path / "songs", f"train/{in_form(form, CAFE)}", "train/B - Two", "test/T - Test")
    text = ENCODED[encoding](CAFE)
    for file in (songs / "validation.txt", tmp_path / "exclude.txt"):
        file.write_bytes(text if isinstance(text, bytes) else text.encode())
    folder = find_songs(songs)
    assert (names(folder, "valid"), folder.unknown) == ([CAFE], ())
    folder = find_songs(songs, Root.open(tmp_path, "demo").excluded())
    assert ([track.name for track in folder.excluded], folder.unknown) == ([CAFE], ())


@pytest.mark.parametrize(
    ("line", "left_out"),
    [
        ("X - Song #3", "X - Song #3"),
        ("X - Song #3  # noise", "X - Song #3"),
        ("X - Song # noise", "X - Song"),
        ("X - Song#noise", "X - Song"),
        ("#1 - Hit", "#1 - Hit"),
        ("# X - Song", None),
        ("#1 - Hit #", "#1 - Hit"),
    ],
)
def test_a_name_may_hold_the_sign_of_a_comment(tmp_path, line, left_out):
    """S56."""
    songs = bare(tmp_path, "train/X - Song #3", "train/X - Song", "test/#1 - Hit")
    folder = find_songs(songs, [line])
    assert [track.name for track in folder.excluded] == [left_out] * (left_out is not None)
    assert folder.unknown == ()


@pytest.mark.parametrize(
    ("line", "closest"), [("X - Sogn #3", "'X - Song #3' in train/"), ("t - test", "'T - Test' in test/")]
)
def test_whoever_looks_for_songs_tells_a_listed_name_that_none_bears(tmp_path, capsys, line, closest):
    """S56: cache, train and evaluate find their songs here."""
    songs = bare(tmp_path / "songs", "train/X - Song #3", "test/T - Test")
    (tmp_path / "exclude.txt").write_text(line)
    locate.locate_songs(PROFILES["full"], songs, Root.open(tmp_path, "full"))
    out = capsys.readouterr().out
    assert out.startswith(f"note: exclude.txt: unknown name: expected a song of this folder, found '{line}'; correct")
    assert closest in out
    assert out.count("\n") == 1


def test_a_list_that_is_no_list_fills_no_screen(tmp_path, capsys):
    songs = bare(tmp_path / "songs", "train/A - One", "test/T - Test")
    (tmp_path / "exclude.txt").write_bytes(b"PK\3\4\n\0" * 50 + b"\n")
    locate.locate_songs(PROFILES["full"], songs, Root.open(tmp_path, "full"))
    assert 0 < capsys.readouterr().out.count("\n") <= 4


@pytest.mark.parametrize("raw", [b"Caf\xe9 - One", "Café - One".encode(), "Cafe\u0301 - One".encode()])
def test_a_folder_in_any_encoding_is_a_song(make_song, tmp_path, raw):
    """S58: names from old archives are read, and may be listed as people read them."""
    songs, root = tmp_path / "songs", Root.open(tmp_path / "root", "demo")
    make_song(tmp_path / "song", seconds=0.5)
    (songs / "train").mkdir(parents=True)
    (tmp_path / "song").rename(songs / "train" / os.fsdecode(raw))
    (track,) = find_songs(songs).tracks
    assert track.name == CAFE
    cache = build_cache(find_songs(songs), root, CacheSettings(), splits=["train"], n_jobs=1)
    assert cache.song(CAFE)[0].shape == (2, 22050)
    with pytest.raises(SepkitError, match="All 1 songs"):
        find_songs(songs, [CAFE])


@pytest.mark.parametrize("length", [230, 248, 252, 255])
def test_names_of_songs_may_be_as_long_as_a_file_system_allows(make_song, tmp_path, length):
    """S67: neither a temporary file nor the cache's own has a name that is too long."""
    songs, root = tmp_path / "songs", Root.open(tmp_path / "root", "demo")
    long = ["A - " + "é" * ((length - 5) // 2) + end for end in ("x", "y")]
    long = [name.ljust(len(name) + length - len(name.encode()), "z") for name in long]
    for seed, name in enumerate(long):
        make_song(songs / "train" / name, seconds=0.5, seed=seed)
    cache = build_cache(find_songs(songs), root, CacheSettings(), splits=["train"], n_jobs=1)
    assert sorted(cache.songs) == long
    assert len({track_file(cache.path, name) for name in long}) == 2
    assert not np.array_equal(cache.song(long[0])[0], cache.song(long[1])[0])


def test_what_systems_leave_among_songs_is_no_song(tmp_path):
    """S80, S86."""
    songs = bare(tmp_path, "train/A - One", "test/T - Test")
    for name in ("__MACOSX", "@eaDir", "Icon\r", "._A - One", ".DS_Store", "#recycle", "$RECYCLE.BIN"):
        bare(songs, f"train/{name}", f"test/{name}", f"{name}/train/A - One")
    assert find_songs(songs).counts == {"train": 1, "valid": 0, "test": 1}


@pytest.mark.parametrize(
    ("places", "advice"),
    [
        (["__MACOSX/train/A - One", "musdb/train/A - One"], "one level deeper: give {root}/musdb"),
        (["."], "this looks like one song: give the folder that holds the songs, {root.parent}"),
    ],
)
def test_advice_on_a_folder_without_songs_fits(tmp_path, places, advice):
    root = tmp_path / "songs"
    root.mkdir()
    if places == ["."]:
        bare(tmp_path, "other")
        root.rmdir()
        (tmp_path / "other").rename(root)
    else:
        bare(root, *places)
    with pytest.raises(SepkitError, match="0 found") as caught:
        find_songs(root)
    assert advice.format(root=root) in str(caught.value)
    assert "__MACOSX" not in str(caught.value)


@pytest.mark.parametrize(
    ("places", "splits"),
    [
        (["Train/A - One", "TEST/T - Test", "dev/B - Two"], {"A - One": "train", "T - Test": "test", "B - Two": "valid"}),
        (["training/A - One", "valid/B - Two", "C - Three"], {"A - One": "train", "B - Two": "valid"}),
        (["A - One", "B - Two", "C - Three"], {"A - One": "test", "B - Two": "valid", "C - Three": "train"}),
        (["train/A - One", "train/B - Two", "test/T - Test"], {"A - One": "valid", "B - Two": "train", "T - Test": "test"}),
    ],
    ids=["other names", "beside them", "neither", "no list"],
)  # fmt: skip
def test_splits_come_from_folders_or_are_drawn(tmp_path, places, splits):
    assert {track.name: track.split for track in find_songs(bare(tmp_path, *places)).tracks} == splits


def test_a_relative_folder_is_made_absolute_where_it_is_read(tmp_path, monkeypatch):
    """S74."""
    bare(tmp_path / "songs", "train/A - One", "test/T - Test")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SEPKIT_DATA", "songs")
    assert locate.locate_songs(PROFILES["full"], None, Root(tmp_path)).path == tmp_path / "songs"


def test_a_cache_needs_no_locks(mini_songs, root):
    """S81: HDF5 locks what it opens, which some network file systems refuse."""
    fcntl = pytest.importorskip("fcntl")
    cache = build_cache(find_songs(mini_songs), root, CacheSettings(sample_rate=22050))
    with track_file(cache.path, "T0 - Test").open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert cache.song("T0 - Test")[0].shape == (2, 66150)
    cache.close()
