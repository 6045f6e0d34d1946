"""Scores belong to the songs and weights that they were made from; what changed is scored again, the rest stays."""

import json
import shutil
from dataclasses import replace

import pytest
import soundfile as sf
import torch

from sepkit import models
from sepkit.__main__ import main
from sepkit.commands.compare import compare
from sepkit.data.cache import Cache
from sepkit.errors import SepkitError
from sepkit.evaluation import score_files as files
from sepkit.evaluation import scoring as module
from sepkit.evaluation.score_files import read_origins
from sepkit.evaluation.scoring import evaluate
from sepkit.evaluation.track import Targets
from sepkit.experiments import get_experiment, resolve
from sepkit.profiles import PROFILES
from sepkit.reporting.scoreboard import collect, scoreboard
from sepkit.storage import Root, frames_beside, write_json
from sepkit.training.train import train
from tests.children import quick_score

TESTS = ["T0 - Test", "T1 - Test", "T2 - Test"]
TRAINED_ON = {"train": ["A0 - Train", "A1 - Train"], "valid": ["V0 - Valid"], "test": []}


def finish(root, name="Base-s0", data=None, seed=0, **facts):
    """A finished run of random weights, trained on TRAINED_ON."""
    settings = resolve(get_experiment("Base"), PROFILES["demo"])
    settings["model"]["hidden_size"] = 8
    torch.manual_seed(seed)
    model, run = models.build(**settings["model"]), root.run(name)
    facts = {"experiment": name.split("-")[0], "seed": seed, "fold": None, "data": data or TRAINED_ON, **facts}
    write_json(run.path / "config.json", {"run": name, **settings, **facts})
    run.write_status(state="finished", epochs=1, best_epoch=1, minutes=0.1, gpu_min=0.0, device="cpu")
    state = {f"model.{key}": value for key, value in model.state_dict().items()}
    torch.save({"state_dict": state, "epoch": 0}, run.best)
    return run


@pytest.fixture(scope="module")
def made(make_mini, tmp_path_factory):
    return make_mini(tmp_path_factory.mktemp("made") / "songs", test=3, seconds=1.0)


@pytest.fixture
def songs(made, tmp_path):
    return shutil.copytree(made, tmp_path / "songs")


@pytest.fixture
def other(make_mini, make_song, tmp_path):
    """Another folder, with one test song."""
    folder = make_mini(tmp_path / "other", test=0, seconds=1.0)
    make_song(folder / "test" / "Held - Out", seconds=1.0, seed=9)
    return folder


@pytest.fixture
def root(tmp_path):
    return Root.open(tmp_path / "root", "demo")


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    """Which songs are scored does not depend on the metrics."""
    monkeypatch.setattr(Targets, "score", quick_score)


@pytest.fixture
def score(songs, root):
    """Scores a run and returns (table, names of the songs that were scored)."""

    def call(run, data=songs, **options):
        once, calls = module._score, []
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(module, "_score", lambda cache, song, *rest: calls.append(song) or once(cache, song, *rest))
            table = evaluate(run, data=data, root=root, device="cpu", n_jobs=1, **options)
        return table, calls

    return call


def louder(folder):
    """Repairs a song: its vocals are twice as loud."""
    stems = {name: sf.read(folder / f"{name}.wav", dtype="int16")[0] for name in ("vocals", "mixture")}
    sf.write(folder / "vocals.wav", 2 * stems["vocals"], 44100, subtype="PCM_16")
    sf.write(folder / "mixture.wav", stems["mixture"] + stems["vocals"], 44100, subtype="PCM_16")


def test_a_repaired_song_is_scored_again_and_the_others_are_kept(score, songs, root, tmp_path, capsys):
    """S55."""
    before, calls = score("mixture")
    assert calls == TESTS
    louder(songs / "test" / TESTS[1])
    after, calls = score("mixture")
    assert calls == TESTS[1:2]
    assert "mixture: its files changed since T1 - Test was scored" in capsys.readouterr().out
    fresh = evaluate("mixture", data=songs, root=tmp_path / "fresh", profile="demo", device="cpu", n_jobs=1)
    assert after.equals(fresh) and not after.equals(before)
    written = [root.run("mixture").path / name for name in ("scores.csv", "frames.csv", "scored.json")]
    assert [file.read_bytes() for file in written] == [
        (tmp_path / "fresh" / "runs" / "mixture" / file.name).read_bytes() for file in written
    ]
    assert score("mixture")[1] == []


def test_a_renamed_song_counts_once(score, songs, capsys):
    score("mixture")
    (songs / "test" / TESTS[1]).rename(songs / "test" / "T9 - New name")
    after, calls = score("mixture")
    assert calls == ["T9 - New name"]
    assert set(after["track"]) == {TESTS[0], TESTS[2], "T9 - New name"}
    assert f"mixture: its name changed since {TESTS[1]} was scored" in capsys.readouterr().out


def test_another_folder_with_the_same_names_is_scored_again(score, root, make_mini, tmp_path):
    before = score("mixture")[0]
    same = make_mini(tmp_path / "same", train=1, test=3, seconds=1.0)  # other noise under the same names
    after, calls = score("mixture", same)
    assert calls == TESTS
    assert not after.equals(before)


def test_songs_of_another_folder_join_the_scores(score, root, other, capsys):
    """One held-out song loses no other score."""
    run = finish(root)
    before = score(run)[0]
    both, calls = score(run, other)
    assert calls == ["Held - Out"]
    assert list(both["track"].unique()) == ["Held - Out", *TESTS]
    assert both[both["track"] != "Held - Out"].reset_index(drop=True).equals(before)
    again, calls = score(run)
    assert calls == [] and again.equals(both)
    assert len(read_origins(run)) == 4


def test_new_weights_are_scored_anew_and_old_scores_of_songs_elsewhere_go(score, root, other, capsys):
    run = finish(root)
    before = score(run)[0]
    score(run, other)
    finish(root, seed=1)
    after, calls = score(run)
    assert calls == TESTS
    assert list(after["track"].unique()) == TESTS
    assert not after.equals(before)
    assert "Base-s0: the run's weights changed since Held - Out, T0 - Test" in capsys.readouterr().out


def test_scores_without_origins_are_taken_as_they_are_with_one_line(score, root, songs, capsys):
    """Hours of scoring are not spent again on a guess."""
    run = finish(root)
    before = score(run)[0]
    (run.path / "scored.json").unlink()
    capsys.readouterr()
    after, calls = score(run)
    assert calls == [] and after.equals(before)
    assert (
        capsys.readouterr().out.count("scored.json does not say from which files and weights 3 songs were scored") == 1
    )
    assert score(run)[1] == [] and capsys.readouterr().out == ""
    louder(songs / "test" / TESTS[2])
    assert score(run)[1] == TESTS[2:]


def test_a_damaged_checkpoint_comes_back_before_scores_are_dropped(score, root, capsys):
    run = finish(root)
    before, good = score(run)[0], run.best.read_bytes()
    run.best.write_bytes(good[: len(good) // 2])
    with pytest.raises(SepkitError, match="Expected a whole checkpoint"):
        score(run)
    run.last.write_bytes(good)
    after, calls = score(run)
    assert calls == [] and after.equals(before) and run.best.read_bytes() == good
    assert "changed since" not in capsys.readouterr().out


@pytest.mark.parametrize("content", ["", "{", "[]", '{"T0 - Test": 3}'])
def test_damaged_origins_lose_no_score(score, root, content):
    run = finish(root)
    before = score(run)[0]
    (run.path / "scored.json").write_text(content)
    assert score(run)[0].equals(before)
    assert set(read_origins(run)) == set(TESTS)


@pytest.mark.parametrize("content", ["", "run;track\n", "run,track,value\na,b,c,d,e\n", "run,track\n\x00"])
def test_a_scores_file_that_can_not_be_read_is_made_again(score, root, content, capsys):
    run = finish(root)
    before = score(run)[0]
    run.scores_path.write_text(content)
    after, calls = score(run)
    assert calls == TESTS and after.equals(before)
    assert f"Expected scores in {run.scores_path}, but it can't be read" in capsys.readouterr().out


def test_a_song_that_the_run_was_trained_on_is_left_out(score, root, make_song, songs, capsys):
    run = finish(root, data={**TRAINED_ON, "train": ["A0 - Train", TESTS[0]], "valid": [TESTS[1]]})
    start = finish(root, "F-s0", start_from="Base")
    for of, left in ((run, TESTS[2:]), (start, TESTS[2:])):
        table, calls = score(of)
        assert calls == left == list(table["track"].unique())
    out = capsys.readouterr().out
    assert "Base-s0: T0 - Test is left out: Base-s0 was trained on it" in out
    assert "F-s0: T1 - Test is left out: F-s0 was trained on it, as Base-s0 was" in out
    everything = finish(root, "C-s0", data={**TRAINED_ON, "train": TESTS})
    with pytest.raises(SepkitError, match="C-s0 can't be scored: of 3 test songs it was trained on all"):
        score(everything)


def test_a_training_song_under_another_name_is_left_out(score, root, songs, tiny, capsys):
    """The same files, called otherwise in test/."""
    run = train("Base", profile=replace(tiny, epochs=1), data=songs, root=root, device="cpu")
    shutil.copytree(songs / "train" / "A1 - Train", songs / "test" / "Z - Twin")
    assert score(run)[1] == TESTS
    assert "Z - Twin is left out: Base-s0 was trained on it (called A1 - Train)" in capsys.readouterr().out
    assert "Z - Twin" in score("mixture")[1]


def test_earlier_scores_of_a_song_that_the_run_was_trained_on_go(score, root):
    run = finish(root)
    score(run)
    write_json(run.path / "config.json", {**run.config, "data": {**TRAINED_ON, "train": [TESTS[0]]}})
    assert list(score(run)[0]["track"].unique()) == TESTS[1:]


def one_sample(folder):
    for file in folder.iterdir():
        sf.write(file, [[0.1, 0.1]], 44100, subtype="PCM_16")


def no_audio(folder):
    (folder / "bass.wav").write_bytes(b"RIFF")


def not_finite(folder):
    samples = sf.read(folder / "bass.wav")[0]
    samples[100] = float("nan")
    sf.write(folder / "bass.wav", samples, 44100, subtype="FLOAT")


def no_stem(folder):
    (folder / "bass.wav").unlink()


@pytest.mark.parametrize("spoil", [one_sample, no_audio, not_finite, no_stem])
def test_a_song_that_can_not_be_scored_is_named_and_the_others_are_scored(spoil, songs, root, capsys):
    spoil(songs / "test" / TESTS[1])
    call = ["evaluate", "mixture", "--data", str(songs), "--root", str(root.path), "--jobs", "1"]
    assert main(call) == 1
    out = capsys.readouterr().out
    assert "mixture: T1 - Test has no scores: " in out
    assert list(root.run("mixture").scores()["track"].unique()) == [TESTS[0], TESTS[2]]
    assert main(call) == 1  # until a person acts
    (root.path / "exclude.txt").write_text(f"{TESTS[1]}\n")
    assert main(call) == 0


def test_an_estimate_that_is_not_finite_is_named(songs, root, capsys):
    """S15."""
    run = finish(root)
    checkpoint = torch.load(run.best)
    for weights in checkpoint["state_dict"].values():
        weights.fill_(float("nan")) if weights.is_floating_point() else None
    torch.save(checkpoint, run.best)
    call = ["evaluate", "Base", "--data", str(songs), "--root", str(root.path), "--jobs", "1"]
    assert main(call) == 1
    assert "Base-s0: T0 - Test has no scores: undefined: " in capsys.readouterr().out
    assert run.scores()["value"].isna().all()


def test_a_damaged_cache_file_is_named_and_the_others_are_scored(score, monkeypatch):
    song = Cache.song

    def read(self, name, *span):
        if name == TESTS[1]:
            raise SepkitError("T1.h5 can't be read")
        return song(self, name, *span)

    monkeypatch.setattr(Cache, "song", read)
    table = score("mixture")[0]
    assert list(table["track"].unique()) == [TESTS[0], TESTS[2]]
    assert table.attrs["unscored"] == {TESTS[1]: "T1.h5 can't be read"}


def test_if_no_song_can_be_scored_that_is_an_error(score, monkeypatch):
    monkeypatch.setattr(Cache, "song", lambda *_: (_ for _ in ()).throw(SepkitError("no disk")))
    with pytest.raises(SepkitError, match="mixture: none of 3 songs could be scored: T0 - Test: no disk"):
        score("mixture")


def test_a_kill_between_the_files_keeps_each_song_whole(score, root, songs, monkeypatch):
    """After a repair, at every write of the end: the next call has the new scores, and makes none twice."""
    run = finish(root)
    score(run)
    louder(songs / "test" / TESTS[1])
    kept = shutil.copytree(run.path, root.path / "kept")
    right = None
    for killed_at in (None, "frames.csv", "scored.json", "scores.csv"):
        shutil.rmtree(run.path)
        shutil.copytree(kept, run.path)

        def stop(path, *content, at=killed_at, of=None):
            if path.name == at:
                raise KeyboardInterrupt
            of(path, *content)

        with monkeypatch.context() as patch:
            for name in ("write_csv", "write_json"):
                of = getattr(files, name)
                patch.setattr(files, name, lambda *args, of=of, stop=stop: stop(*args, of=of))
            if killed_at:
                with pytest.raises(KeyboardInterrupt):
                    score(run)
        _, calls = score(run)
        assert calls == (["T1 - Test"] if killed_at is None else [])
        found = [run.scores_path.read_bytes(), frames_beside(run.scores_path).read_bytes(), read_origins(run)]
        right = right or found
        assert found == right


def test_a_journal_says_what_its_scores_were_made_from(score, root, songs, monkeypatch):
    """A song that is repaired while an evaluation is stopped is scored again."""
    run = finish(root)
    score(run)
    journal = run.path / "scores.part.jsonl"
    table, windows = run.scores(), json.loads((run.path / "scored.json").read_text())
    lines = [
        json.dumps((song, json.loads(rows.to_json(orient="records")), [], windows[song]))
        for song, rows in table.groupby("track")
    ]
    journal.write_text("\n".join(lines) + '\n["T2 - Te')
    run.scores_path.unlink()
    (run.path / "scored.json").unlink()
    louder(songs / "test" / TESTS[0])
    assert score(run)[1] == TESTS[:1]


def test_one_held_out_song_leaves_the_scoreboard_as_it_was(score, root, other):
    for name in ("Base-s0", "C-s0"):
        score(finish(root, name, seed=0))
    score("mixture")
    before = scoreboard(root)
    score(root.run("Base-s0"), other)
    board = collect(root)
    assert scoreboard(root).equals(before)
    assert any("since only Base-s0 has a score: Held - Out." in note for note in board.main.notes)
    assert compare("C", "Base", root=root).n == 3


def test_unlike_training_songs_are_said(score, root, capsys):
    """S75."""
    score(finish(root))
    score(finish(root, "UMX-s0", data={**TRAINED_ON, "train": [*TRAINED_ON["train"], "C - Three"]}, seed=1))
    said = "Base-s0 and UMX-s0 were trained on unlike songs: only UMX-s0 on C - Three"
    assert said in str(compare("UMX", "Base", root=root))
    assert any(said in note for note in collect(root).main.notes)
    assert main(["compare", "UMX", "Base", "--root", str(root.path)]) == 0
    assert said in capsys.readouterr().out
    score(finish(root, "C-s0"))
    assert "unlike songs" not in str(compare("C", "Base", root=root))


def test_unlike_versions_of_a_song_are_not_compared(score, root, songs):
    score(finish(root))
    louder(songs / "test" / TESTS[1])
    score(finish(root, "C-s0", seed=1))
    words = "Base-s0 and C-s0 were scored on unlike files of T1 - Test: evaluate both again"
    with pytest.raises(SepkitError, match=words):
        compare("C", "Base", root=root)
    assert "C" not in collect(root).main.comparisons
    assert any(words in note for note in collect(root).main.notes)
    score(root.run("Base-s0"))
    assert compare("C", "Base", root=root).n == 3
