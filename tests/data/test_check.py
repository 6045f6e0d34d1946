"""Every fault of a song is named by song and file, before work starts; sound songs pass."""

import shutil

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
    return check_track(track)[1]


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


@pytest.mark.parametrize("name", ["Vocals.wav", "vocal.wav", "VOCALS.WAV"])
def test_a_misnamed_stem_is_guessed(songs, name):
    song = songs / "train" / "A0 - Train"
    (song / "vocals.wav").rename(song / name)
    (problem,) = problems_of(songs)
    assert problem.kind == "missing stem"
    assert problem.fix == f"rename {name} to vocals.wav"


def test_a_song_whose_folder_is_empty_lacks_all_five(songs):
    shutil.rmtree(songs / "train" / "A0 - Train")
    (songs / "train" / "A0 - Train").mkdir()
    assert find_songs(songs).counts["train"] == 2
    assert [problem.file for problem in problems_of(songs)] == [f"{stem}.wav" for stem in STEMS]


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
    assert check_track(track) == (6.1, [])
    np.testing.assert_allclose([start for _, start, _ in read], np.arange(6) * 5.6 / 5 * 44100, atol=1)
    assert {stop - start for _, start, stop in read} == {22050}
    rng = np.random.default_rng(0)
    rewrite(song / "mixture.wav", lambda audio: audio + rng.normal(0, 0.05, audio.shape))
    duration_s, (problem,) = check_track(track)
    assert (duration_s, problem.kind) == (6.1, "residual")


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
    for stem in STEMS[1:]:
        (songs / "train" / "A0 - Train" / f"{stem}.wav").unlink()
    with pytest.raises(SepkitError, match=r"4 problem\(s\) .* and 1 more") as caught:
        require_headers(find_songs(songs), "Training")
    assert str(caught.value).count("missing stem") == 3
