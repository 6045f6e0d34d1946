"""Every fault of a song is named by song and file, before work starts; sound songs pass."""

import shutil
import struct

import numpy as np
import pytest
import soundfile as sf

from sepkit.data.check import (
    check_counts,
    check_folder,
    check_headers,
    check_track,
    require,
    require_headers,
    residual_db,
)
from sepkit.data.songs import find_songs, read_song
from sepkit.errors import SepkitError

STEMS = ("mixture", "vocals", "drums", "bass", "other")


@pytest.fixture
def songs(mini_songs, tmp_path):
    return shutil.copytree(mini_songs, tmp_path / "songs")


def rewrite(file, change, subtype="PCM_16", rate=44100):
    audio = sf.read(file, always_2d=True)[0]
    sf.write(file, change(audio), rate, subtype=subtype)


def problems_of(songs, name="A0 - Train"):
    track = next(track for track in find_songs(songs).tracks if track.name == name)
    return check_track(track).problems


def truncate(file, part=0.5):
    content = file.read_bytes()
    file.write_bytes(content[: int(len(content) * part)])


FAULTS = {
    "missing stem": lambda file: file.unlink(),
    "truncated": truncate,
    "channels": lambda file: rewrite(file, lambda audio: audio[:, :1]),
    "sample rate": lambda file: rewrite(file, lambda audio: audio, rate=48000),
    "unequal length": lambda file: rewrite(file, lambda audio: audio[:-20480]),
    "unreadable": lambda file: file.write_bytes(b""),
    "empty file": lambda file: rewrite(file, lambda audio: audio[:0]),
}


@pytest.mark.parametrize("kind", FAULTS)
@pytest.mark.parametrize("stem", ["mixture", "vocals", "bass"])
def test_a_fault_that_headers_tell_blocks_by_song_and_file(songs, kind, stem):
    FAULTS[kind](songs / "train" / "A0 - Train" / f"{stem}.wav")
    (first, *_) = found = problems_of(songs)
    assert (first.track, first.file, first.kind, first.blocking) == ("A0 - Train", f"{stem}.wav", kind, True)
    assert {problem.file for problem in found} == {f"{stem}.wav"}
    with pytest.raises(SepkitError, match=rf"Training can't start: .*A0 - Train: {stem}\.wav: {kind}"):
        require_headers(find_songs(songs), "Training")
    assert not check_headers(find_songs(songs).split("test")[0])


def test_found_and_expected_are_said(songs):
    song = songs / "train" / "A0 - Train"
    rewrite(song / "drums.wav", lambda audio: np.vstack([audio, audio[:5000]]))
    rewrite(song / "other.wav", lambda audio: audio[:-5000])
    unequal = {problem.file: problem for problem in problems_of(songs)}
    assert unequal.keys() == {"drums.wav", "other.wav"}  # S05
    assert unequal["drums.wav"].found == "137300 (+5000)"
    assert unequal["other.wav"].found == "127300 (-5000)"
    assert "132300 samples" in unequal["other.wav"].expected
    rewrite(song / "bass.wav", lambda audio: audio[:, :1])
    mono = next(problem for problem in problems_of(songs) if problem.kind == "channels")
    assert (mono.expected, mono.found) == ("2 channels", "1")


@pytest.mark.parametrize("name", ["vocal.wav", "vocals_.flac"])
def test_a_misnamed_stem_is_guessed(songs, name):
    song = songs / "train" / "A0 - Train"
    (song / "vocals.wav").rename(song / name)
    (problem,) = problems_of(songs)
    assert problem.kind == "missing stem"
    assert problem.fix == f"rename {name} to vocals"


@pytest.mark.parametrize("holds", ["nothing", "notes.txt", "._mixture.wav"])
def test_a_song_whose_folder_holds_no_audio_is_one_line(songs, holds):
    folder = songs / "train" / "A0 - Train"
    shutil.rmtree(folder)
    folder.mkdir()
    if holds != "nothing":
        (folder / holds).write_bytes(b"text")
    assert find_songs(songs).counts["train"] == 2
    (problem,) = problems_of(songs)
    assert (problem.kind, problem.found, problem.blocking) == (
        "no audio",
        holds.replace("._mixture.wav", "nothing"),
        True,
    )


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("stem", ["mixture", "other"])
def test_samples_that_are_not_finite_block(songs, value, stem):
    def spoil(audio):
        audio[100, 1] = value
        return audio

    rewrite(songs / "train" / "A0 - Train" / f"{stem}.wav", spoil, "FLOAT")
    (problem,) = problems_of(songs)
    assert (problem.kind, problem.file, problem.blocking) == ("not finite", f"{stem}.wav", True)
    assert problem.found == "1 NaN or infinite"


def test_a_silent_stem_is_told_and_does_not_block(songs):
    """S13: songs without vocals exist."""
    song = songs / "train" / "A0 - Train"
    vocals = sf.read(song / "vocals.wav")[0]
    rewrite(song / "vocals.wav", np.zeros_like)
    rewrite(song / "mixture.wav", lambda audio: audio - vocals)
    (problem,) = problems_of(songs)
    assert (problem.kind, problem.file, problem.blocking) == ("silent", "vocals.wav", False)
    require([problem], "Training")


@pytest.mark.parametrize("reading", ["of the mixture", "of full scale"])
@pytest.mark.parametrize(("noise_db", "flagged"), [(-60, False), (-20, True)])
def test_noise_in_the_mixture_passes_at_60_db_and_is_flagged_at_20(songs, reading, noise_db, flagged):
    """S09, whichever way the level of the noise is read."""
    rng = np.random.default_rng(0)

    def spoil(audio):
        level = np.sqrt(np.mean(audio**2)) if reading == "of the mixture" else 1.0
        return audio + rng.normal(0, level * 10 ** (noise_db / 20), audio.shape)

    rewrite(songs / "train" / "A0 - Train" / "mixture.wav", spoil)
    found = problems_of(songs)
    assert [problem.kind for problem in found] == ["residual"] * flagged
    assert not any(problem.blocking for problem in found)


def test_the_residual_of_a_known_mixture(mini_songs):
    audio = read_song(find_songs(mini_songs).tracks[0])[0]
    assert residual_db(audio) < -120
    audio["mixture"] = audio["mixture"] + 0.1 * audio["mixture"]
    assert residual_db(audio) == pytest.approx(20 * np.log10(0.1 / 1.1), abs=0.01)


def test_a_mixture_that_belongs_to_another_song_is_flagged(songs):
    shutil.copy(songs / "test" / "T0 - Test" / "mixture.wav", songs / "train" / "A0 - Train" / "mixture.wav")
    (problem,) = problems_of(songs)
    assert problem.kind == "residual"


def test_long_songs_are_checked_on_excerpts(make_song, tmp_path, monkeypatch):
    for name, value in {"WHOLE_BELOW_S": 6.0, "EXCERPT_S": 0.5}.items():
        monkeypatch.setattr(f"sepkit.data.check.{name}", value)
    song = make_song(tmp_path / "train" / "A - B", seconds=6.1)
    track, read = find_songs(tmp_path).tracks[0], []
    monkeypatch.setattr("sepkit.data.check.read_song", lambda *span: read.append(span) or read_song(*span))
    checked = check_track(track)
    assert (checked.duration_s, checked.problems) == (6.1, [])
    np.testing.assert_allclose([start for _, start, _ in read], np.arange(6) * 5.6 / 5 * 44100, atol=1)
    assert {stop - start for _, start, stop in read} == {22050}
    rng = np.random.default_rng(0)
    rewrite(song / "mixture.wav", lambda audio: audio + rng.normal(0, 0.05, audio.shape))
    (problem,) = check_track(track).problems
    assert problem.kind == "residual"


def test_sound_songs_have_no_problems(mini_songs):
    hours, median_s, problems = check_folder(find_songs(mini_songs), n_jobs=1)
    assert problems == []
    assert hours == pytest.approx(4 * 3 / 3600)
    assert median_s == 3.0
    require_headers(find_songs(mini_songs), "Training")


def test_a_small_set_under_musdbs_names_is_called_small_and_short(make_mini, tmp_path):
    """S02: 3 songs are not 150, and 3 seconds are not a song."""
    folder = find_songs(make_mini(tmp_path, train=1, valid=1, test=1, musdb_names=True))
    _, _, problems = check_folder(folder, n_jobs=1)
    found = {problem.kind: problem for problem in problems}
    assert found.keys() == {"song count", "short clips"}
    assert "150" in found["song count"].expected
    assert found["song count"].found == "3"
    assert "3.0 s" in found["short clips"].found
    assert not any(problem.blocking for problem in problems)


@pytest.mark.parametrize(("split", "blocking"), [("train", True), ("valid", True), ("test", False)])
def test_a_split_without_songs_is_told(make_mini, tmp_path, split, blocking):
    counts = {"train": 1, "valid": 1, "test": 1, split: 0}
    (problem,) = check_counts(find_songs(make_mini(tmp_path, **counts)))
    assert (problem.kind, problem.blocking) == (f"no {split} songs", blocking)


def test_a_song_in_train_and_test_blocks(songs):
    shutil.copytree(songs / "train" / "A0 - Train", songs / "test" / "A0 - Train")
    (problem,) = check_counts(find_songs(songs))
    assert (problem.track, problem.kind, problem.blocking) == ("A0 - Train", "song in train and test", True)


def test_names_that_no_song_bears_are_told(songs):
    (problem,) = check_counts(find_songs(songs, ["A0 - Trian"]))
    assert (problem.kind, problem.found, problem.blocking) == ("unknown name", "'A0 - Trian'", False)


def test_an_excluded_song_may_be_broken(songs):
    (songs / "train" / "A0 - Train" / "bass.wav").unlink()
    folder = find_songs(songs, ["A0 - Train"])
    require_headers(folder, "Training")
    assert check_folder(folder, n_jobs=1)[2] == []


@pytest.fixture
def mp4_songs(tmp_path):
    for place in ("train/A - B", "train/Actions - One Minute Smile", "test/C - D"):
        file = tmp_path / "mp4" / f"{place}.stem.mp4"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"not audio")
    return tmp_path / "mp4"


def test_stem_mp4_without_ffmpeg_is_one_sentence(mp4_songs, monkeypatch):
    """S12: what is missing, how to get it, and that WAV does not need it."""
    monkeypatch.setenv("PATH", "")
    folder = find_songs(mp4_songs)
    blocking = [problem for problem in check_folder(folder, n_jobs=1)[2] if problem.blocking]
    assert [problem.kind for problem in blocking] == ["no ffmpeg"]
    for attempt in (lambda: require_headers(folder, "Training"), lambda: read_song(folder.tracks[0])):
        with pytest.raises(SepkitError, match=r"ffmpeg and ffprobe .*install ffmpeg .*WAV layout, which does not"):
            attempt()


def test_the_wav_layout_needs_no_ffmpeg(mini_songs, monkeypatch):
    monkeypatch.setenv("PATH", "")
    folder = find_songs(mini_songs)
    require_headers(folder, "Training")
    assert read_song(folder.tracks[0])[1] == 44100


def test_an_empty_stem_mp4_blocks_by_name(mp4_songs):
    (mp4_songs / "train" / "A - B.stem.mp4").write_bytes(b"")
    (problem,) = check_headers(find_songs(mp4_songs).split("train")[0])
    assert (problem.track, problem.file, problem.blocking) == ("A - B", "A - B.stem.mp4", True)


def test_many_problems_are_counted_and_three_shown(songs):
    for song in ("train/A0 - Train", "test/T0 - Test"):
        for stem in STEMS[1:3]:
            (songs / song / f"{stem}.wav").unlink()
    with pytest.raises(SepkitError, match=r"4 problem\(s\) .* and 1 more") as caught:
        require_headers(find_songs(songs), "Training")
    assert str(caught.value).count("missing stem") == 3


def kinds(songs, exclude=()):
    return {problem.kind: problem for problem in check_folder(find_songs(songs, exclude), n_jobs=1)[2]}


@pytest.mark.parametrize(
    ("there", "kind", "fix"),
    [
        ("._bass.wav", "missing stem", "repair it, or exclude the song"),
        ("bases.flac", "missing stem", "rename bases.flac to bass"),
        ("bass.wav.txt", "missing stem", "repair it, or exclude the song"),
        ("bass.wav -> gone.wav", "broken link", "copy bass.wav itself there"),
        ("bass.wav/", "unreadable", "repair it, or exclude the song"),
    ],
)
def test_advice_on_a_stem_that_is_not_there_fits(songs, there, kind, fix):
    """S80 and its neighbours: what systems leave is never offered."""
    song = songs / "train" / "A0 - Train"
    if " -> " in there:
        (song / "bass.wav").unlink()
        (song / "bass.wav").symlink_to(song / "gone.wav")
    elif there.endswith("/"):
        (song / "bass.wav").unlink()
        (song / "bass.wav").mkdir()
    else:
        (song / "bass.wav").rename(song / there)
    (problem,) = problems_of(songs)
    assert (problem.file, problem.kind, problem.blocking) == ("bass.wav", kind, True)
    assert problem.fix.startswith(fix)


@pytest.mark.parametrize("name", ["bass.flac", "BASS.mp3", "Bass.WAV", "bass.wave"])
def test_other_kinds_of_audio_and_letters_are_read(songs, name):
    song = songs / "train" / "A0 - Train"
    (song / "bass.wav").rename(song / name)
    assert problems_of(songs) == []
    track = find_songs(songs).tracks[0]
    assert track.told("bass") == name
    assert read_song(track)[0]["bass"].shape == (2, 132300)


def set_length(file, length):
    content = bytearray(file.read_bytes())
    at = content.find(b"data") + 4
    content[at : at + 4] = content[4:8] = struct.pack("<I", length)
    file.write_bytes(content)


@pytest.mark.parametrize("length", [0xFFFFFFFF, 0xFFFFFFDB, 0x7FFFF000, 0x7F000000])
@pytest.mark.parametrize("files", [STEMS, ("bass",)])
def test_a_song_written_into_a_pipe_is_taken(songs, files, length):
    """S64: its headers promise any length; the samples are all there."""
    for stem in files:
        set_length(songs / "train" / "A0 - Train" / f"{stem}.wav", length)
    assert problems_of(songs) == []
    track = find_songs(songs).tracks[0]
    assert {samples.shape for samples in read_song(track)[0].values()} == {(2, 132300)}
    truncate(track.path / "bass.wav")
    assert {problem.file for problem in problems_of(songs)} == {"bass.wav"}


def test_a_header_with_length_0_is_taken(songs):
    """S64."""
    set_length(songs / "train" / "A0 - Train" / "bass.wav", 0)
    assert problems_of(songs) == []
    assert read_song(find_songs(songs).tracks[0])[0]["bass"].shape == (2, 132300)


@pytest.mark.parametrize("n_samples", [1, 2, 512, 4409])
def test_a_song_too_short_to_score_blocks(songs, n_samples):
    for stem in STEMS:
        rewrite(songs / "train" / "A0 - Train" / f"{stem}.wav", lambda audio: audio[:n_samples])
    (problem,) = problems_of(songs)
    assert (problem.kind, problem.found, problem.blocking) == ("too short", f"{n_samples} sample(s)", True)


@pytest.mark.parametrize(("gain", "told"), [(1.0, False), (5.0, False), (600.0, True), (32768.0, True)])
def test_samples_far_beyond_full_scale_are_told(songs, gain, told):
    for stem in STEMS:
        rewrite(songs / "train" / "A0 - Train" / f"{stem}.wav", lambda audio: gain * audio, "FLOAT")
    found = problems_of(songs)
    assert [(problem.kind, problem.blocking) for problem in found] == [("level", False)] * told
    if told:
        assert found[0].file == "mixture.wav"


@pytest.mark.parametrize(("subset", "blocking"), [("test", True), ("train", False)])
@pytest.mark.parametrize("change", ["nothing", "24 bits", "the other stems"])
def test_the_same_audio_twice_is_told_and_blocks_across_train_and_test(songs, make_song, subset, blocking, change):
    """S76: under another name, in another file, or with the vocals alone."""
    copy = shutil.copytree(songs / "train" / "A0 - Train", songs / subset / "Else - Where")
    if change == "24 bits":
        for stem in STEMS:
            rewrite(copy / f"{stem}.wav", lambda audio: audio, "PCM_24")
    elif change == "the other stems":
        make_song(songs / "new", seed=99)
        vocals = (copy / "vocals.wav").read_bytes()
        shutil.copytree(songs / "new", copy, dirs_exist_ok=True)
        (copy / "vocals.wav").write_bytes(vocals)
    found = kinds(songs)["same audio"]
    file = "vocals.wav" if change == "the other stems" else "mixture.wav"
    assert (found.track, found.file, found.blocking) == ("Else - Where", file, blocking)
    assert found.found == "those of 'A0 - Train' in train/"
    assert "same audio" not in kinds(songs, ["Else - Where"])


def test_silent_vocals_are_nobodys(songs):
    for song in ("train/A0 - Train", "test/T0 - Test"):
        rewrite(songs / song / "vocals.wav", np.zeros_like)
    assert "same audio" not in kinds(songs)


def test_an_artist_in_train_and_test_is_told(songs, make_song):
    """S76."""
    make_song(songs / "test" / "a0 - Another", seed=98)
    found = kinds(songs)["artist in train and test"]
    assert (found.found, found.blocking) == ("1: a0 - Another", False)


@pytest.mark.parametrize("name", ["A - One", "more"])
def test_songs_in_other_folders_are_told(songs, make_song, name):
    make_song(songs / name if name == "A - One" else songs / name / "A - One", seed=97, seconds=0.2)
    for left in ("__MACOSX", "notes", ".cache"):
        (songs / left / "train" / "x").mkdir(parents=True)
    (songs / "__MACOSX" / "train" / "x" / "mixture.wav").touch()
    (problem,) = check_counts(find_songs(songs))
    assert (problem.file, problem.kind, problem.found, problem.blocking) == (name, "not read", "songs", False)


def test_links_and_files_beside_the_songs_are_told(songs):
    (songs / "train" / "Gone - Song").symlink_to(songs / "nowhere")
    (songs / "test" / "Flat - Song.wav").touch()
    (songs / "test" / "notes.txt").touch()
    found = {problem.file: problem.found for problem in check_counts(find_songs(songs))}
    assert found == {"train/Gone - Song": "a broken link", "test/Flat - Song.wav": "a file"}


def test_no_fault_hides_another(songs, make_song):
    song = songs / "train" / "A0 - Train"
    (song / "bass.wav").rename(song / "contra.flac")
    (song / "drums.wav").unlink()
    (song / "drums.wav").symlink_to(song / "gone.wav")
    (songs / "train" / "Empty - Folder").mkdir()
    (songs / "train" / "__MACOSX").mkdir()
    make_song(songs / "more" / "A - One", seed=97, seconds=0.2)
    make_song(songs / "test" / "Tiny - Song", seed=96, seconds=1 / 44100)
    shutil.copytree(songs / "train" / "A1 - Train", songs / "test" / "Else - Where")
    for stem in STEMS:
        rewrite(songs / "test" / "T0 - Test" / f"{stem}.wav", lambda audio: 600 * audio, "FLOAT")
    assert kinds(songs, ["Mis - Spelt"]).keys() == {
        "missing stem", "broken link", "no audio", "not read", "too short", "same audio", "level", "unknown name",
    }  # fmt: skip


def test_two_folders_whose_names_are_one_are_told(songs):
    shutil.copytree(songs / "train" / "A0 - Train", songs / "train" / "Café - One")
    (songs / "train" / "Café - One").rename(songs / "train" / "Cafe\u0301 - One")
    shutil.copytree(songs / "train" / "A1 - Train", songs / "train" / "Café - One")
    (problem,) = check_counts(find_songs(songs))
    assert (problem.track, problem.kind, problem.blocking) == ("Café - One", "two songs of one name", True)


@pytest.mark.parametrize(
    ("change", "fixes"),
    [
        (
            lambda songs: (songs / "validation.txt").write_text("A0 - Train\nA1 - Train\nV0 - Valid"),
            {"train": "all songs of train/ are validation songs: name fewer in validation.txt"},
        ),
        (lambda songs: (songs / "validation.txt").write_text(""), {"valid": "name songs of train/ in validation.txt"}),
        (lambda songs: shutil.rmtree(songs / "train"), {"train": "copy songs into {}/train", "valid": "copy songs into {}/train"}),
        (lambda songs: shutil.rmtree(songs / "test"), {"test": "copy songs into {}/test"}),
    ],
    ids=["all valid", "none valid", "no train", "no test"],
)  # fmt: skip
def test_the_fix_for_an_empty_split_fits(songs, change, fixes):
    change(songs)
    found = {problem.kind: problem for problem in check_counts(find_songs(songs))}
    empty = {kind.split()[1]: problem.fix for kind, problem in found.items() if kind.startswith("no ")}
    assert empty.keys() == fixes.keys()
    for split, fix in fixes.items():
        assert empty[split].startswith(fix.format(songs))
