"""Demo songs: the layout, the exact sum, what a song depends on, and what a kill leaves."""

import hashlib
import json
from functools import partial

import numpy as np
import pytest
import soundfile as sf

from sepkit.data.demo import song as demo_song
from sepkit.data.demo import songs as demo
from sepkit.data.demo import synth
from sepkit.data.songs import find_songs
from sepkit.errors import SepkitError, UsageError
from sepkit.profiles import STEMS

SHORT = (3.0, 3.5)
# {(split, index, seed, seconds): vocals, drums, bass, other on standard normal noise}, in steps of int16
AS_MADE_BEFORE = {
    ("train", 0, 0, 3.0): (-1827556, 198858, 902432, -1541937),
    ("train", 6, 2, 4.0): (48332, 3409432, 3954807, -1006723),
    ("valid", 1, 0, 3.5): (778482, -4998023, -469875, -2205672),
    ("test", 3, 5, 3.2): (-69258, 400128, 1699623, 271364),
}
make_short = partial(demo.make_demo_songs, duration_s=SHORT, n_jobs=1)


def digests(folder):
    """Path below `folder` -> digest of the bytes, for every WAV file that is not hidden."""
    return {
        file.relative_to(folder).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in folder.glob("t*/*/*.wav")
    }


def mtimes(folder):
    return {file: file.stat().st_mtime_ns for file in folder.rglob("*") if file.is_file()}


def read(song):
    return {name: sf.read(song / f"{name}.wav", dtype="int16")[0] for name in ("mixture", *STEMS)}


@pytest.fixture(scope="module")
def songs(tmp_path_factory):
    """3 training, 2 validation and 2 test songs."""
    return make_short(tmp_path_factory.mktemp("demo") / "songs", train=3, valid=2, test=2)


@pytest.fixture(scope="module")
def long_stems():
    """The stems of three 13-second songs, as int16 (channel, time)."""
    songs = [demo.DemoSong("train", index) for index in range(3)]
    return [demo.quantise(demo_song.make_stems(*song.generators(0), 13.0)) for song in songs]


def test_layout_is_that_of_musdb(songs):
    assert sorted(path.name for path in songs.iterdir()) == ["demo.json", "test", "train", "validation.txt"]
    assert len(list((songs / "train").iterdir())) == 5
    assert len(list((songs / "test").iterdir())) == 2
    for song in songs.glob("t*/*"):
        assert sorted(file.stem for file in song.iterdir()) == sorted(("mixture", *STEMS))
        for file in song.iterdir():
            info = sf.info(file)
            assert (info.samplerate, info.channels, info.subtype) == (44_100, 2, "PCM_16")
            assert SHORT[0] <= info.duration <= SHORT[1]


def test_validation_names_songs_of_train(songs):
    names = (songs / "validation.txt").read_text(encoding="utf-8").splitlines()
    assert len(set(names)) == 2
    assert all((songs / "train" / name / "mixture.wav").exists() for name in names)


def test_the_reader_of_songs_finds_the_three_splits(songs):
    assert find_songs(songs).counts == {"train": 3, "valid": 2, "test": 2}


def test_mixture_is_the_sum_of_the_stems_to_the_last_bit(songs):
    for song in songs.glob("t*/*"):
        audio = read(song)
        total = sum(audio[source].astype(int) for source in STEMS)
        np.testing.assert_array_equal(audio["mixture"].astype(int), total)


def test_songs_are_loud_and_do_not_clip(songs):
    peaks = [np.abs(read(song)["mixture"].astype(int)).max() for song in songs.glob("t*/*")]
    assert max(peaks) <= 32767 * 10 ** (-1 / 20) + 2  # four stems, each rounded by half a step
    assert np.median(peaks) >= 32767 * 10 ** (-1.1 / 20)


def test_quantise_scales_a_known_sum_to_one_below_full_scale():
    left = np.array([[0.5, 1.0], [0.0, -2.0]])
    out = demo.quantise({"vocals": left, "drums": 3 * left})
    peak = round(32767 * 10 ** (-1 / 20))
    np.testing.assert_allclose(out["mixture"], peak * left / 2, atol=1)
    assert out["mixture"].dtype == np.int16


def test_quantise_does_not_clip_stems_that_cancel():
    out = demo.quantise({"vocals": np.full((2, 3), 5.0), "drums": np.full((2, 3), -5.0)})
    assert not out["mixture"].any()
    assert out["vocals"].max() == -out["drums"].min() == round(32767 * 10 ** (-1 / 20))


def test_a_song_depends_neither_on_the_processes_nor_on_the_number_of_songs(songs, tmp_path):
    fewer = digests(make_short(tmp_path / "fewer", train=1, valid=1, test=2, n_jobs=2))
    assert len(fewer) == 4 * 5
    assert fewer.items() <= digests(songs).items()


@pytest.mark.parametrize("song", AS_MADE_BEFORE, ids=str)
def test_a_seed_gives_the_song_that_it_always_gave(song):
    """Another processor may round a few samples to the next step; other music is millions away."""
    split, index, seed, duration_s = song
    stems = demo.quantise(demo_song.make_stems(*demo.DemoSong(split, index).generators(seed), duration_s))
    noise = np.random.default_rng(0).standard_normal(round(duration_s * 44_100))
    found = [(stems[name] @ noise).sum() for name in STEMS]
    np.testing.assert_allclose(found, AS_MADE_BEFORE[song], rtol=0, atol=50)


def test_the_seed_changes_every_file_and_no_name(songs, tmp_path):
    other = digests(make_short(tmp_path / "other", train=2, valid=0, test=0, seed=1))
    before = digests(songs)
    assert other.keys() <= before.keys()
    assert not set(other.values()) & set(before.values())


def test_songs_of_a_folder_differ(songs):
    assert len(set(digests(songs).values())) == 7 * 5


def test_names_never_repeat_and_only_validation_shares_artists_with_train():
    names, artists = {}, {}
    for split in ("train", "valid", "test"):
        some = [demo.DemoSong(split, index).name for index in range(200)]
        names[split] = set(some)
        assert len(names[split]) == 200
        artists[split] = {name.split(" - ")[0] for name in some}
    assert not names["train"] & names["valid"]
    assert artists["valid"] == artists["train"]
    assert not artists["test"] & artists["train"]
    of_the_demo = [demo.DemoSong("train", index).name.split(" - ")[0] for index in range(24)]
    assert len(set(of_the_demo)) == 24


def test_vocals_have_rests_of_four_seconds_and_sing_half_the_time(long_stems):
    for stems in long_stems:
        silent = np.concatenate([[False], ~stems["vocals"].any(axis=0), [False]])
        edges = np.flatnonzero(np.diff(silent.astype(int)))
        assert (edges[1::2] - edges[::2]).max() >= 4 * 44_100
        assert 0.45 <= 1 - silent.mean() <= 0.7


def test_only_the_vocals_rest(long_stems):
    for stems in long_stems:
        seconds = stems["mixture"].shape[1] // 44_100
        accompaniment = stems["mixture"].astype(float) - stems["vocals"]
        power = (accompaniment[:, : seconds * 44_100].reshape(2, seconds, -1) ** 2).mean((0, 2))
        assert power.min() > 0.01 * np.median(power)


def test_vocals_lie_below_the_accompaniment_as_in_real_songs(long_stems):
    for stems in long_stems:
        vocals = stems["vocals"].astype(float)
        ratio = (vocals**2).sum() / ((stems["mixture"] - vocals) ** 2).sum()
        # -5 to +1 dB while singing, and singing is half to two thirds of a song: 2 to 3 dB less
        assert -9.0 < 10 * np.log10(ratio) < -0.5


@pytest.mark.parametrize("pitch", [28, 45.5, 69, 81])
def test_a_plucked_string_is_in_tune(pitch):
    string = synth.plucked_string(np.random.default_rng(0), pitch, 1.0, 0.995, 0.8)
    assert string.size == 44_100
    spectrum = np.abs(np.fft.rfft(string * np.hanning(string.size), 2**18))
    hz = np.fft.rfftfreq(2**18, 1 / 44_100)
    expected = 440 * 2 ** ((pitch - 69) / 12)
    near = np.abs(np.log2(np.maximum(hz, 1) / expected)) < 0.2
    found = hz[near][spectrum[near].argmax()]
    assert abs(1200 * np.log2(found / expected)) < 10  # cents


def test_a_tone_holds_the_harmonics_asked_for_and_no_others():
    phase = np.arange(4410) * 440 / 44_100  # 44 whole periods: harmonic k lies in bin 44 k
    spectrum = np.abs(np.fft.rfft(synth.tone(phase, np.array([1.0, 0.0, 0.5])))) / 2205
    expected = np.zeros(spectrum.size)
    expected[[44, 132]] = 1.0, 0.5
    np.testing.assert_allclose(spectrum, expected, atol=1e-5)


def test_noise_keeps_to_its_band():
    spectrum = np.abs(np.fft.rfft(synth.noise(np.random.default_rng(0), 44_100, 2000, 4000))) ** 2
    assert spectrum[1500:5000].sum() / spectrum.sum() == pytest.approx(1.0)


def test_a_sung_note_has_its_pitch():
    singer = synth.Singer(45, 60, 1.0, 1.0, 0.03, 5.0, 0.5, 0.1)
    sound = synth.sing_phrase(np.random.default_rng(0), singer, [(0.0, 2.0, 57)])
    spectrum = np.abs(np.fft.rfft(sound, 2**17)) ** 2
    hz = np.fft.rfftfreq(2**17, 1 / 44_100)
    harmonic = np.abs(hz / 220 - np.rint(hz / 220)) < 0.1
    low = (hz > 110) & (hz < 1210)
    assert spectrum[low & harmonic].sum() > 0.95 * spectrum[low].sum()


def test_reverberation_ends_and_leaves_silence_alone():
    stem = np.zeros((2, 44_100))
    stem[:, 100] = 1.0
    wet = synth.reverberate(np.random.default_rng(0), stem, 0.5)
    assert np.abs(wet[:, :100]).max() < 1e-12
    assert np.abs(wet[:, 101 + round(synth.ROOM_S * 44_100) :]).max() < 1e-12
    assert (wet[:, 101:] ** 2).sum() == pytest.approx(2 * 0.5**2, rel=0.05)
    assert not np.allclose(wet[0], wet[1])


def test_a_second_call_writes_nothing(songs, monkeypatch):
    before = mtimes(songs)
    monkeypatch.setattr(demo, "write_text", None)
    monkeypatch.setattr(demo, "spread", None)
    make_short(songs, train=3, valid=2, test=2)
    assert mtimes(songs) == before
    assert not (songs / ".partial").exists()


def test_an_interrupted_call_shows_whole_songs_only_and_the_next_one_finishes(songs, tmp_path, monkeypatch):
    folder, write, calls = tmp_path / "cut", sf.write, []

    def write_until_cut(*args, **kwargs):
        if len(calls) == 8:  # in the middle of the second song
            raise KeyboardInterrupt
        calls.append(args)
        write(*args, **kwargs)

    monkeypatch.setattr(sf, "write", write_until_cut)
    with pytest.raises(KeyboardInterrupt):
        make_short(folder, train=3, valid=2, test=2)
    monkeypatch.undo()
    assert len(digests(folder)) == 5
    assert not (folder / "demo.json").exists()
    assert len(list((folder / ".partial").rglob("*.wav"))) == 3
    done = {file: time for file, time in mtimes(folder).items() if ".partial" not in file.parts}

    make_short(folder, train=3, valid=2, test=2)
    assert digests(folder) == digests(songs)
    assert done.items() <= mtimes(folder).items()
    assert not (folder / ".partial").exists()


def test_a_song_that_lost_a_file_is_made_again(tmp_path):
    folder = make_short(tmp_path / "songs", train=1, valid=0, test=1)
    before = digests(folder)
    next((folder / "test").iterdir()).joinpath("bass.wav").unlink()
    make_short(folder, train=1, valid=0, test=1)
    assert digests(folder) == before


def test_a_folder_of_something_else_is_refused_and_left_as_it_is(tmp_path):
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(SepkitError, match=r"holds thesis\.tex and no demo\.json"):
        make_short(tmp_path, train=1, valid=0, test=0)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_file_in_the_folders_place_is_refused(tmp_path):
    (tmp_path / "songs").write_text("")
    with pytest.raises(SepkitError, match="is a file"):
        make_short(tmp_path / "songs", train=1, valid=0, test=0)


@pytest.mark.parametrize("change", [{"seed": 1}, {"train": 4}, {"duration_s": (3.0, 4.0)}])
def test_other_settings_are_refused(songs, change):
    before = mtimes(songs)
    with pytest.raises(SepkitError, match="give another folder"):
        make_short(songs, **{"train": 3, "valid": 2, "test": 2} | change)
    assert mtimes(songs) == before


def test_an_unreadable_demo_json_is_refused(tmp_path):
    (tmp_path / "demo.json").write_text("{")
    with pytest.raises(SepkitError, match="something unreadable"):
        make_short(tmp_path, train=1, valid=0, test=0)


def test_demo_json_says_the_settings(songs):
    settings = json.loads((songs / "demo.json").read_text(encoding="utf-8"))
    assert settings["duration_s"] == list(SHORT)
    assert [settings[key] for key in ("seed", "train", "valid", "test")] == [0, 3, 2, 2]


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({"duration_s": (5.0, 4.0)}, "duration_s"),
        ({"duration_s": (0.5, 4.0)}, "duration_s"),
        ({"duration_s": (5.0, float("inf"))}, "duration_s"),
        ({"duration_s": (float("nan"), 5.0)}, "duration_s"),
        ({"train": -1}, "train"),
        ({"seed": 0.5}, "seed"),
    ],
)
def test_settings_out_of_range_are_refused_before_anything_is_written(tmp_path, settings, name):
    with pytest.raises(UsageError, match=f"^{name}: expected"):
        make_short(tmp_path / "songs", **settings)
    assert not (tmp_path / "songs").exists()
