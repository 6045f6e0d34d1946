"""A cache is complete in itself: everything works from it without a song, on another machine, under another path."""

import re
import shutil

import pytest
import torch

import sepkit
from sepkit.data.build import CacheWriter, cache_track
from sepkit.data.cache import CacheSettings, track_file
from sepkit.data.opening import open_cache
from sepkit.data.songs import SPLITS, find_songs
from sepkit.errors import SepkitError
from sepkit.notebook import Day
from sepkit.profiles import PROFILES, STEMS
from sepkit.storage import Root

TWO, FOUR, HALF = CacheSettings(), CacheSettings(sources=STEMS), CacheSettings(sample_rate=22050)
FULL = PROFILES["full"]


@pytest.fixture(scope="module")
def made(mini_songs, tiny, tmp_path_factory):
    """A root with all caches of Base, which trains at 22.05 kHz and is scored at 44.1; not to be changed."""
    root = Root.open(tmp_path_factory.mktemp("made"), tiny)
    sepkit.cache(profile=tiny, data=mini_songs, root=root)
    return root


@pytest.fixture
def moved(made, tmp_path):
    """The caches alone, under another path."""
    shutil.copytree(made.path / "cache", tmp_path / "elsewhere" / "cache")
    return Root.open(tmp_path / "elsewhere", "demo")


def trained(where, fold=None):
    run = sepkit.train("Base", device="cpu", fold=fold, **where)
    scores = sepkit.evaluate(run, data=where.get("data"), device="cpu", n_jobs=1)
    return run, scores.drop(columns="run"), torch.load(run.best, weights_only=True)["state_dict"]


@pytest.mark.parametrize("fold", [None, 0])
def test_training_and_scores_are_those_of_the_songs(made, moved, mini_songs, tiny, tmp_path, fold, capsys):
    """A run of the usual split and one of a fold, each with and without the songs."""
    (tmp_path / "with").mkdir()
    shutil.copytree(made.path / "cache", tmp_path / "with" / "cache")
    _, scores, weights = trained({"profile": tiny, "data": mini_songs, "root": tmp_path / "with"}, fold)
    capsys.readouterr()
    run, again, found = trained({"profile": tiny, "root": moved}, fold)
    assert scores.equals(again)
    assert all(torch.equal(found[name], weights[name]) for name in weights)
    assert "songs: 3 from the cache wave-" in capsys.readouterr().out
    assert not (moved.path / "songs").exists()
    assert run.config["data"]["layout"] == "wav"


def test_songs_for_the_ear_and_a_report_come_from_the_cache(moved, tiny):
    where = {"profile": tiny, "root": moved}
    run, scores, _ = trained(where)
    assert list(scores["track"].unique()) == ["T0 - Test"]
    day = Day(1, tiny, moved, None, 0, ("Base",))
    assert day.easy_and_hard() == ("V0 - Valid", "V0 - Valid")
    for split, song in (("valid", "V0 - Valid"), ("test", "T0 - Test")):
        clips = sepkit.estimates(run, song, split=split)
        assert {clip.shape for clip in clips.values()} == {(2, 3 * 44100)}
    for name in ("mixture", "oracle"):
        assert sepkit.reference(name, device="cpu", n_jobs=1, **where).scored
    assert "Base" in sepkit.report(moved, tiny).read_text(encoding="utf-8")


def test_an_interrupted_run_goes_on_from_the_cache_alone(made, moved, mini_songs, tiny):
    """Its configuration names the songs' layout and cache, which are the same."""
    where = {"profile": tiny, "data": mini_songs, "root": moved, "device": "cpu"}
    run = sepkit.train("Base", **where)
    weights = torch.load(run.best, weights_only=True)["state_dict"]
    run.write_status(state="running")
    again = sepkit.train("Base", profile=tiny, root=moved, device="cpu")
    assert again.finished
    assert all(map(torch.equal, torch.load(again.best, weights_only=True)["state_dict"].values(), weights.values()))


def opened(root, settings=TWO, splits=SPLITS, data=None, profile=FULL):
    return open_cache(profile, data, root, settings, splits, "Training")


@pytest.fixture
def songs(mini_songs, tmp_path):
    return shutil.copytree(mini_songs, tmp_path / "songs")


def test_a_folder_that_is_given_and_gone_is_no_obstacle(moved, tmp_path):
    cache = opened(moved, data=tmp_path / "gone")
    assert list(cache.songs) == ["A0 - Train", "A1 - Train", "V0 - Valid", "T0 - Test"]


def test_songs_that_are_given_win_over_a_cache_of_others(moved, make_mini, tmp_path):
    """Also where the cache is whole and its songs bear the same names."""
    others = make_mini(tmp_path / "others", seconds=1.0)
    cache = opened(moved, data=others)
    assert {cache.n_samples(name) for name in cache.songs} == {44100}
    with pytest.raises(SepkitError, match=r"holds 2 caches of different songs that fit \(wave-\w+, wave-\w+\)"):
        opened(moved)


def test_an_excluded_song_is_left_out_and_dealt_into_folds(moved):
    (moved.path / "exclude.txt").write_text("A0 - Train\n")
    cache = opened(moved)
    assert list(cache.songs) == ["A1 - Train", "V0 - Valid", "T0 - Test"]
    assert cache.excluded["A0 - Train"]["split"] == "train"


def test_a_song_that_was_excluded_when_the_cache_was_made_is_asked_for(songs, tmp_path):
    root = Root.open(tmp_path / "root", "full")
    (root.path / "exclude.txt").write_text("A0 - Train\n")
    assert len(opened(root, data=songs).songs) == 3
    shutil.rmtree(songs)
    assert len(opened(root).songs) == 3
    (root.path / "exclude.txt").unlink()
    with pytest.raises(SepkitError, match=r"but not all of 'A0 - Train'"):
        opened(root)
    assert list(opened(root, splits=("test",)).songs) == ["T0 - Test"]


@pytest.mark.parametrize(
    ("settings", "splits", "asked"),
    [
        (FOUR, SPLITS, "a cache of wave of vocals, drums, bass, other at 44100 Hz with all train and valid and test"),
        (
            CacheSettings(kind="stft"),
            ("train",),
            "a cache of stft of vocals, accompaniment at 44100 Hz, bins of 1024/256",
        ),
        (CacheSettings(sample_rate=32000), ("train",), "a cache of wave of vocals, accompaniment at 32000 Hz"),
        (HALF, ("test",), "at 22050 Hz, but not all of test"),
    ],
    ids=["four stems", "stft", "another rate", "another split"],
)
def test_a_cache_that_does_not_fit_is_one_sentence(moved, settings, splits, asked):
    """What is asked for, what each cache holds, what to give."""
    with pytest.raises(SepkitError) as caught:
        opened(moved, settings, splits)
    assert asked in str(caught.value)
    assert (
        len(re.findall(r"wave-\w+ holds wave of vocals, accompaniment at (?:44100|22050) Hz", str(caught.value))) == 2
    )
    fetch = {FOUR: "--data, or fetch them: python -m sepkit fetch --profile full --stems."}.get(settings, "--data.")
    assert str(caught.value).endswith(fetch)


def test_without_songs_and_caches_the_songs_are_asked_for(tmp_path):
    with pytest.raises(SepkitError, match=r"The full profile needs MUSDB18-HQ.*--data or SEPKIT_DATA"):
        opened(Root.open(tmp_path, "full"))


@pytest.mark.parametrize("damage", ["zeroed", "gone"])
def test_damage_without_songs_is_one_sentence(moved, damage):
    cache = opened(moved)
    file = track_file(cache.path, "A1 - Train")
    content = file.read_bytes()
    file.unlink()
    if damage == "zeroed":
        file.write_bytes(content[:600_000] + bytes(4096) + content[604_096:])
    fault = "holds other bytes than were written" if damage == "zeroed" else "is gone"
    with pytest.raises(SepkitError, match=rf"A1 - Train\.h5 {fault} \(1 of 4 songs\); give the folder of songs"):
        opened(moved)
    assert list(opened(moved, splits=("test",)).songs) == ["T0 - Test"]


@pytest.mark.parametrize("case", ["test/ alone", "a training song lacks a stem"])
def test_scoring_test_songs_needs_them_alone(songs, tmp_path, case):
    """S72."""
    if case == "test/ alone":
        shutil.rmtree(songs / "train")
        (songs / "validation.txt").unlink()
    else:
        (songs / "train" / "A0 - Train" / "bass.wav").unlink()
    run = sepkit.reference("mixture", data=songs, root=tmp_path / "root", device="cpu", n_jobs=1)
    assert list(run.scores()["track"].unique()) == ["T0 - Test"]
    with pytest.raises(SepkitError, match="no train songs" if case == "test/ alone" else "A0 - Train: bass.wav"):
        sepkit.train("Base", data=songs, root=tmp_path / "root")


@pytest.mark.parametrize("case", ["the same", "others", "another take", "another test song", "an excluded one", "gone"])
def test_a_finished_run_says_that_the_songs_are_others(
    trained_root, mini_songs, make_mini, tiny, tmp_path, capsys, case
):
    """It is returned as it is, all the same."""
    root = Root.open(shutil.copytree(trained_root.path, tmp_path / "root"), tiny)
    songs = shutil.copytree(mini_songs, tmp_path / "songs")
    if case == "others":
        shutil.rmtree(songs)
        make_mini(songs, train=3)
    elif case == "another take":
        shutil.copy(songs / "train/A0 - Train/bass.wav", songs / "train/A1 - Train/bass.wav")
    elif case == "another test song":
        shutil.copy(songs / "train/A0 - Train/bass.wav", songs / "test/T0 - Test/bass.wav")
    elif case == "an excluded one":
        (root.path / "exclude.txt").write_text("A0 - Train\n")
    elif case == "gone":
        shutil.rmtree(songs)
    before = torch.load(root.run("Base-s0").best, weights_only=True)["state_dict"]
    run = sepkit.train("Base", profile=tiny, data=songs, root=root, device="cpu")
    assert all(map(torch.equal, torch.load(run.best, weights_only=True)["state_dict"].values(), before.values()))
    said = capsys.readouterr().out
    name = {"others": "A2 - Train", "another take": "A1 - Train", "an excluded one": "A0 - Train"}.get(case)
    other = f"Base-s0 was trained on other songs than are here now (1 differ, first {name})"
    assert said.startswith(other) if name else said == ""


def test_the_songs_of_a_folder_are_known_in_a_cache_from_an_archive(mini_songs, songs, tmp_path, monkeypatch):
    """It is used as it is, wherever its name comes from; with one song changed the folder has its own."""
    root = Root.open(tmp_path / "root", "full")
    writer = CacheWriter(root, TWO, "wav")
    for track in find_songs(mini_songs).tracks:
        writer.enter(track.name, cache_track(track, writer.path, TWO)[0])
    writer.finish(SPLITS)
    assert opened(root, data=mini_songs).path == writer.path
    shutil.copy(songs / "train/A0 - Train/bass.wav", songs / "test/T0 - Test/bass.wav")
    assert opened(root, data=songs).path != writer.path
