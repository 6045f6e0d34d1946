"""Excerpts of the easy and the hard song: equal to what is separated again, kept whole, never of old weights."""

import shutil

import numpy as np
import pytest
import soundfile as sf
import torch

import sepkit
from sepkit.errors import SepkitError
from sepkit.evaluation import listening
from sepkit.evaluation.listening import choose_songs, excerpts
from sepkit.storage import Root, drive
from sepkit.storage.excerpts import Excerpt, chosen, easy_and_hard, keep, kept
from sepkit.training.train import train

SONG = "V0 - Valid"
STEP = 1 / 32768


@pytest.fixture(scope="module")
def listened(scored_root, mini_songs, tmp_path_factory):
    """A root whose Base and references have their excerpts; not to be changed."""
    root = Root.open(shutil.copytree(scored_root.path, tmp_path_factory.mktemp("listened") / "root"), "demo")
    for name in ("Base-s0", "mixture", "oracle"):
        excerpts(root.run(name), mini_songs)
    return root


@pytest.fixture
def mine(listened, tmp_path):
    """The same for one test, which may change it."""
    return Root.open(shutil.copytree(listened.path, tmp_path / "root"), "demo")


@pytest.fixture
def no_network(monkeypatch):
    """Whoever separates anything, or opens the songs, fails."""

    def fail(*_, **__):
        raise AssertionError("something was separated again")

    monkeypatch.setattr(listening, "make_estimator", fail)
    monkeypatch.setattr(listening, "open_scored", fail)


def a_run(tmp_path, name="Base-s0"):
    run = Root.open(tmp_path / "bare", "demo").run(name)
    run.path.mkdir(parents=True)
    return run


def test_an_excerpt_is_the_same_part_of_the_estimate_of_the_whole_song(listened, mini_songs):
    run = listened.run("Base-s0")
    (excerpt,) = excerpts(run, mini_songs)
    whole = sepkit.estimates(run, SONG, mini_songs, split="valid")
    assert set(excerpt.clips) == set(whole)
    assert (excerpt.song, excerpt.start_s, excerpt.sample_rate) == (SONG, 0.0, 44100)  # the song has 3 s
    for name, clip in excerpt.clips.items():
        assert clip.dtype == np.float32
        np.testing.assert_allclose(clip, whole[name], atol=2 * STEP)
    assert np.array_equal(excerpt.clips["vocals"], whole["vocals"])  # 16 bits already


def test_the_loudest_eight_seconds_are_kept(make_song, tmp_path):
    cache = type("Cache", (), {"sample_rate": 1000, "songs": {SONG: {}}})()
    cache.settings = type("Settings", (), {"sources": ("vocals", "drums", "bass")})()
    clips = {name: np.ones((2, 30000), np.float32) * 0.1 for name in ("mixture", "drums", "bass")}
    clips |= {f"{name} estimate": np.ones((2, 30000), np.float32) * 0.2 for name in ("vocals", "drums", "bass")}
    clips["vocals"] = np.where(np.arange(30000) // 1000 >= 15, 0.5, 0.0).astype(np.float32) * np.ones((2, 1))
    found = listening._excerpt(clips, SONG, cache, None)
    assert found.start_s == 15.0
    assert {clip.shape for clip in found.clips.values()} == {(2, 8000)}
    assert found.clips["accompaniment"].max() == pytest.approx(0.2)  # drums and bass
    assert found.clips["accompaniment estimate"].max() == pytest.approx(0.4)


def test_kept_ones_are_read_without_songs_and_network(listened, no_network):
    for name in ("Base-s0", "mixture", "oracle"):
        assert [excerpt.song for excerpt in excerpts(listened.run(name))] == [SONG]
    assert easy_and_hard(listened) == (SONG, SONG)


@pytest.mark.parametrize("peak", [0.0, 1e-6, 0.3, 1.0, 4.0])
def test_levels_stay(tmp_path, peak):
    run, shape = a_run(tmp_path), (2, 4000)
    tone = np.sin(np.arange(4000) / 7, dtype=np.float32) * np.ones((2, 1), np.float32)
    clips = {"mixture": tone / 2, "vocals": peak * tone, "vocals estimate": np.zeros(shape, np.float32)}
    keep(run, Excerpt(SONG, 2.0, 22050, clips))
    found = kept(run, SONG)
    assert found is not None
    assert list(found.clips) == list(clips)
    assert (found.start_s, found.sample_rate) == (2.0, 22050)
    for name, clip in clips.items():
        np.testing.assert_allclose(found.clips[name], clip, atol=max(peak, 1) * STEP)
    assert not found.clips["vocals estimate"].any()


def test_an_accompaniment_that_is_the_rest_costs_nothing(tmp_path):
    run, rng = a_run(tmp_path), np.random.default_rng(0)
    noise = {name: rng.uniform(-0.3, 0.3, (2, 8 * 44100)).astype(np.float32) for name in ("mixture", "vocals", "other")}
    clips = {"mixture": noise["mixture"], "vocals": noise["vocals"], "vocals estimate": noise["vocals"] / 2}
    clips["accompaniment"] = clips["mixture"] - clips["vocals"]
    sizes = {}
    for kind in ("residual", "modelled"):
        own = clips["mixture"] - clips["vocals estimate"] if kind == "residual" else noise["other"]
        keep(run, Excerpt(SONG, 0.0, 44100, {**clips, "accompaniment estimate": own}))
        np.testing.assert_allclose(kept(run, SONG).clips["accompaniment estimate"], own, atol=2 * STEP)
        (file,) = run.path.glob("*.flac")
        sizes[kind] = file.stat().st_size
    assert sizes["residual"] < 4.3e6  # white noise, which FLAC can't make smaller: music takes two thirds
    assert sizes["residual"] < 0.8 * sizes["modelled"]


def test_other_weights_show_nothing_of_yesterday(mine, mini_songs):
    run = mine.run("Base-s0")
    (before,) = excerpts(run, mini_songs)
    checkpoint = torch.load(run.best, weights_only=True)
    checkpoint["state_dict"] = {name: 0.9 * value for name, value in checkpoint["state_dict"].items()}
    torch.save(checkpoint, run.best)
    assert kept(run, SONG) is None
    (after,) = excerpts(run, mini_songs)
    assert not np.array_equal(before.clips["vocals estimate"], after.clips["vocals estimate"])
    assert np.array_equal(before.clips["vocals"], after.clips["vocals"])


def test_a_run_without_its_checkpoint_keeps_its_excerpts(mine, no_network):
    """As on a machine that has no room for networks."""
    run = mine.run("Base-s0")
    run.best.unlink()
    assert len(excerpts(run)) == 1


def test_changed_songs_are_chosen_and_separated_again(mine, mini_songs, tmp_path, make_song, capsys):
    songs = shutil.copytree(mini_songs, tmp_path / "songs")
    before = chosen(mine)
    shutil.rmtree(songs / "train" / SONG)
    make_song(songs / "train" / SONG, seed=99)
    run = mine.run("oracle")
    run.path.joinpath(f"excerpt {SONG}.flac").unlink()  # what is kept shows until something has to be made
    (found,) = excerpts(run, songs)
    truth, _ = sf.read(songs / "train" / SONG / "vocals.wav", dtype="float32")
    assert np.array_equal(found.clips["vocals"], truth.T)
    assert before.keys() == chosen(mine).keys()
    assert before != chosen(mine)
    assert kept(mine.run("Base-s0"), SONG) is None


def test_an_excluded_song_is_chosen_no_more(mine, mini_songs, tmp_path, make_song):
    songs = shutil.copytree(mini_songs, tmp_path / "songs")
    make_song(songs / "train" / "V1 - Valid", seed=50)
    (songs / "validation.txt").write_text(f"{SONG}\nV1 - Valid\n")
    assert set(choose_songs(mine, songs)) == {SONG, "V1 - Valid"}
    run = mine.run("Base-s0")
    assert {excerpt.song for excerpt in excerpts(run, songs)} == {SONG, "V1 - Valid"}
    (mine.path / "exclude.txt").write_text("V1 - Valid  # bleed\n")
    assert easy_and_hard(mine) is None
    assert [excerpt.song for excerpt in excerpts(run, songs)] == [SONG]
    assert easy_and_hard(mine) == (SONG, SONG)


def test_a_fold_never_shows_a_song_that_it_was_trained_on(mine, mini_songs, tmp_path, tiny, monkeypatch, capsys):
    run = mine.run("Base-s0-f0")
    shutil.copytree(mine.run("Base-s0").path, run.path)
    (run.path / f"excerpt {SONG}.flac").unlink()
    config = run.config
    config |= {"run": run.name, "fold": 0, "data": {**config["data"], "train": [SONG], "valid": ["A0 - Train"]}}
    sepkit.storage.write_json(run.path / "config.json", config)
    assert excerpts(run, mini_songs) == []
    assert "Base-s0-f0 was trained on it" in capsys.readouterr().out


def test_what_is_not_finite_is_a_line_and_no_file(mine, mini_songs, monkeypatch, capsys):
    run = mine.run("Base-s0")
    run.path.joinpath(f"excerpt {SONG}.flac").unlink()
    make = listening.make_estimator

    def diverged(run, device):
        return lambda mixture, targets, song: {
            **make(run, device)(mixture, targets),
            "vocals": mixture * np.float32(np.nan),
        }

    monkeypatch.setattr(listening, "make_estimator", diverged)
    assert excerpts(run, mini_songs) == []
    assert "vocals estimate of V0 - Valid has samples that are not finite" in capsys.readouterr().out
    assert list(run.path.glob("*excerpt*")) == []


def test_a_kill_leaves_the_old_file_or_the_new_one(tmp_path, monkeypatch):
    run, clip = a_run(tmp_path), np.random.default_rng(0).uniform(-0.5, 0.5, (2, 8000)).astype(np.float32)
    keep(run, Excerpt(SONG, 0.0, 22050, {"mixture": clip, "vocals": clip, "vocals estimate": clip}))
    monkeypatch.setattr(sf.SoundFile, "write", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        keep(run, Excerpt(SONG, 1.0, 22050, {"mixture": clip, "vocals": clip, "vocals estimate": clip}))
    assert kept(run, SONG).start_s == 0.0
    assert len(list(run.path.iterdir())) == 1
    (file,) = run.path.iterdir()
    file.write_bytes(file.read_bytes()[:50000])  # of 98 kB
    assert kept(run, SONG) is None


def test_excerpts_travel_with_their_run(listened, tmp_path):
    drive.push(listened, tmp_path / "drive")
    again = Root.open(tmp_path / "again", "demo")
    drive.pull(again, tmp_path / "drive")
    assert easy_and_hard(again) == easy_and_hard(listened)
    assert kept(again.run("oracle"), SONG) is not None


def test_a_run_that_is_not_finished_has_none(mine, mini_songs):
    run = mine.run("Base-s0")
    run.write_status(state="running")
    run.path.joinpath(f"excerpt {SONG}.flac").unlink()
    with pytest.raises(SepkitError, match="Base-s0 was stopped after 4 epochs"):
        excerpts(run, mini_songs)


def test_a_network_of_four_stems_has_vocals_and_accompaniment(mine, mini_songs, tiny):
    run = train("Base-4", profile=tiny, data=mini_songs, root=mine, device="cpu")
    (excerpt,) = excerpts(run, mini_songs)
    (base,) = excerpts(mine.run("Base-s0"), mini_songs)
    assert list(excerpt.clips) == list(base.clips)
    for name in ("mixture", "vocals", "accompaniment"):
        np.testing.assert_allclose(excerpt.clips[name], base.clips[name], atol=2 * STEP)
