"""scores.csv: the same bytes whatever the workers, the kills and the order; nothing scored that should not be."""

import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import soundfile as sf

import sepkit
from sepkit import models
from sepkit.data.cache import Cache
from sepkit.errors import SepkitError, UsageError
from sepkit.evaluation import metrics
from sepkit.evaluation import scoring as module
from sepkit.evaluation.bsseval import References
from sepkit.evaluation.estimators import mixture_estimate
from sepkit.evaluation.metrics import BSS_EVAL_METRICS, METRICS
from sepkit.evaluation.score_files import COLUMNS, scores_path
from sepkit.evaluation.scoring import evaluate, evaluate_many, reference
from sepkit.experiments import BOUNDS
from sepkit.storage import Root, frames_beside, read_frames, read_scores, write_json
from sepkit.training.train import train

SILENT = "T1 - Test"


class Killed(BaseException):
    """Ends an evaluation as a kill does, as far as one process can."""


@pytest.fixture(scope="module")
def songs(make_mini, make_song, tmp_path_factory):
    """Three test songs; the vocals of one are silent, and the last is 13 samples longer than 2 s."""
    folder = make_mini(tmp_path_factory.mktemp("scored") / "songs", train=2, valid=1, test=2, seconds=2.0)
    shutil.rmtree(folder / "test" / SILENT)
    make_song(folder / "test" / SILENT, seconds=2.0, seed=7, rest_s=2.0)
    make_song(folder / "test" / "T2 - Test", seconds=2 + 13 / 44100, seed=8)
    return folder


@pytest.fixture(scope="module")
def trained(songs, tiny, tmp_path_factory):
    """A root with Base after one epoch, unscored; not to be changed."""
    root = Root.open(tmp_path_factory.mktemp("trained"), "demo")
    train("Base", profile=replace(tiny, epochs=1), data=songs, root=root, device="cpu")
    module.scoring_songs(root.run("Base-s0"), songs)  # builds the cache that all tests share
    return root


@pytest.fixture
def run(trained, tmp_path):
    """A copy of that run that may be scored."""
    shutil.copytree(trained.path, tmp_path / "root")
    return Root.open(tmp_path / "root", "demo").run("Base-s0")


@pytest.fixture
def score(songs):
    return lambda run, **options: evaluate(run, **{"data": songs, "device": "cpu", "n_jobs": 1, **options})


@pytest.fixture(scope="module")
def scored(trained, songs, tmp_path_factory):
    """(table, bytes of scores.csv, bytes of frames.csv) of an evaluation without a break."""
    path = tmp_path_factory.mktemp("straight") / "root"
    shutil.copytree(trained.path, path)
    run = Root.open(path, "demo").run("Base-s0")
    table = evaluate(run, data=songs, device="cpu", n_jobs=1)
    return table, *written(run)


def written(run):
    return run.scores_path.read_bytes(), frames_beside(run.scores_path).read_bytes()


def value(table, song, source, metric):
    rows = table[(table["track"] == song) & (table["source"] == source) & (table["metric"] == metric)]
    (found,) = rows["value"]
    return found


def read_wav(songs, song, *stems):
    return sum(sf.read(songs / "test" / song / f"{stem}.wav")[0].T for stem in stems)


def test_scores_have_the_contracts_columns_a_row_for_each_song_source_and_metric(scored):
    table = scored[0]
    assert list(table.columns) == COLUMNS
    assert list(table["track"].unique()) == ["T0 - Test", SILENT, "T2 - Test"]
    assert len(table) == 3 * 2 * len(METRICS)
    assert not table.duplicated(["track", "source", "metric"]).any()
    constant = {"run": "Base-s0", "experiment": "Base", "seed": 0, "protocol": "2stem"}
    for column, expected in {**constant, "accompaniment": "residual"}.items():
        assert set(table[column]) == {expected}
    assert table["fold"].isna().all()
    assert "sdr" not in set(table["metric"])


def test_a_song_with_silent_vocals_is_undefined_and_the_others_go_on(scored):
    """S13, S20: undefined values are empty cells with a reason, and come back so."""
    table, data, _ = scored
    undefined = table[table["value"].isna()]
    assert (undefined["track"] == SILENT).sum() >= 6
    assert undefined["status"].str.startswith("undefined: ").all()
    assert (table.loc[table["value"].notna(), "status"] == "ok").all()
    rest = undefined[undefined["track"] != SILENT]
    assert set(rest["metric"]) == {"silence_energy_db"}  # their sources are never silent, and noise has onsets
    lines = [line.split(",") for line in data.decode().splitlines()[1:]]
    assert sum(line[7] == "" for line in lines) == len(undefined)
    assert np.isfinite(value(table, SILENT, "vocals", "silence_energy_db"))
    assert np.isfinite(value(table, SILENT, "accompaniment", "sdr_global"))


def test_a_table_read_and_written_again_is_the_same_file(scored, tmp_path):
    _, data, windows = scored
    (tmp_path / "scores.csv").write_bytes(data)
    read_scores(tmp_path / "scores.csv").to_csv(tmp_path / "again.csv", index=False)
    assert (tmp_path / "again.csv").read_bytes() == data
    (tmp_path / "frames.csv").write_bytes(windows)
    read_frames(tmp_path / "frames.csv").to_csv(tmp_path / "again.csv", index=False)
    assert (tmp_path / "again.csv").read_bytes() == windows


def test_frames_are_what_the_medians_are_taken_from(scored, tmp_path):
    table, _, data = scored
    (tmp_path / "frames.csv").write_bytes(data)
    frames = read_frames(tmp_path / "frames.csv")
    assert list(frames.columns) == [
        "track", "source", "frame", "sdr_bsseval", "isr_bsseval", "sir_bsseval", "sar_bsseval"
    ]  # fmt: skip
    assert len(frames) == 3 * 2 * 2  # two whole seconds of each song
    for (song, source), rows in frames.groupby(["track", "source"]):
        for metric in BSS_EVAL_METRICS:
            values = rows[metric].dropna()
            median = values.median() if len(values) else np.nan
            assert value(table, song, source, metric) == pytest.approx(median, abs=1.5e-6, nan_ok=True)
    assert frames[frames["track"] == SILENT][BSS_EVAL_METRICS[0]].isna().all()


def test_a_scored_run_is_not_scored_again(run, score, scored, monkeypatch):
    run.scores_path.write_bytes(scored[1])
    monkeypatch.setattr(module, "make_estimator", None)
    assert score(run).equals(scored[0])
    assert run.scores_path.read_bytes() == scored[1]
    assert "evaluate test" not in set(run.root.budget()["stage"])


@pytest.mark.parametrize("after", [1, 2])
def test_an_evaluation_that_was_killed_goes_on_to_the_same_file(run, score, scored, monkeypatch, after):
    once = module._score
    calls = []

    def killed(cache, song, *rest):
        if len(calls) == after:
            raise Killed
        calls.append(song)
        return once(cache, song, *rest)

    monkeypatch.setattr(module, "_score", killed)
    with pytest.raises(Killed):
        score(run)
    assert not run.scores_path.exists()  # complete or absent
    journal = run.path / "scores.part.jsonl"
    with journal.open("a") as file:  # a kill while the next song was written
        file.write('\n["T2 - Test", [{"run": "Base-s0", "exp')
    assert "evaluate test" in set(run.root.budget()["stage"])  # the minutes of songs that are done
    monkeypatch.setattr(module, "_score", lambda cache, song, *rest: calls.append(song) or once(cache, song, *rest))
    assert score(run).equals(scored[0])
    assert written(run) == scored[1:]
    assert calls == ["T0 - Test", SILENT, "T2 - Test"]
    assert not journal.exists()


def test_an_evaluation_of_an_earlier_version_goes_on(run, score, scored):
    """It wrote scores.csv after each song."""
    lines = scored[1].decode().splitlines(keepends=True)
    run.scores_path.write_text("".join(lines[: 1 + 2 * len(METRICS)]))
    frames_beside(run.scores_path).write_bytes(scored[2])
    assert score(run).equals(scored[0])
    assert written(run) == scored[1:]


def test_many_runs_score_as_one_after_another_and_share_each_song(run, score, scored, songs, references, monkeypatch):
    """One song is decoded once, and what depends on its targets alone is computed once."""
    decoded, correlated, whitened = [], [], []
    for where, name, calls in ((Cache, "song", decoded), (module, "Targets", whitened)):
        of = getattr(where, name)
        monkeypatch.setattr(where, name, lambda *args, of=of, calls=calls: calls.append(args) or of(*args))
    shared = References._shared.func
    monkeypatch.setattr(References._shared, "func", lambda self: correlated.append(self) or shared(self))
    tables = evaluate_many(
        [run, "mixture", "oracle"], root=run.root, data=songs, device="cpu", n_jobs=1, profile="demo"
    )
    assert tables[0].equals(scored[0])
    assert written(run) == scored[1:]
    for name in ("mixture", "oracle"):
        assert written(run.root.run(name)) == written(references.run(name))
    assert len(decoded) == len(whitened) == 3
    assert len(correlated) == 2  # in the song with silent vocals BSS Eval has nothing to do
    (row,) = run.root.budget().query("stage == 'evaluate test'").to_dict("records")
    assert row["run"] == "shared"


def test_runs_of_two_protocols_are_scored_together(run, four, scored, songs, tmp_path):
    shutil.copytree(four[0].path, run.root.path / "runs" / "Base-4-s0")
    other = run.root.run("Base-4-s0")
    right = written(other)
    for file in (other.scores_path, frames_beside(other.scores_path)):
        file.unlink()
    evaluate_many([other, run], data=songs, device="cpu", n_jobs=1)
    assert written(other) == right
    assert written(run) == scored[1:]


def test_each_song_is_written_once(run, score, monkeypatch):
    """The cost of keeping songs does not grow with those that are there."""
    sizes, add = [], module.ScoreFiles.add

    def watched(self, *args):
        before = self.journal.stat().st_size if self.journal.exists() else 0
        add(self, *args)
        sizes.append(self.journal.stat().st_size - before)

    monkeypatch.setattr(module.ScoreFiles, "add", watched)
    monkeypatch.setattr(module, "make_estimator", lambda run, device: mixture_estimate)
    score(run)
    assert len(sizes) == 3
    assert max(sizes) < 1.5 * min(sizes)


def test_two_workers_give_the_same_bytes(run, score, scored):
    score(run, n_jobs=2)
    assert written(run) == scored[1:]


def test_an_excluded_song_leaves_the_scores_and_the_others_stay(run, score, scored):
    """S10."""
    run.scores_path.write_bytes(scored[1])
    (run.root.path / "exclude.txt").write_text(SILENT + "\n")
    table = score(run)
    assert list(table["track"].unique()) == ["T0 - Test", "T2 - Test"]
    kept = scored[0][scored[0]["track"] != SILENT].reset_index(drop=True)
    assert table.dropna(axis=1, how="all").equals(kept.dropna(axis=1, how="all"))
    (run.root.path / "exclude.txt").unlink()
    score(run)
    assert run.scores_path.read_bytes() == scored[1]


def test_validation_songs_have_a_file_of_their_own(run, score):
    table = score(run, split="valid")
    assert list(table["track"].unique()) == ["V0 - Valid"]
    assert scores_path(run, "valid") == run.path / "valid_scores.csv"
    assert (run.path / "valid_scores.csv").exists()
    assert not run.scores_path.exists()


def test_what_can_not_be_scored_is_refused_before_any_work(run, score, songs):
    with pytest.raises(UsageError, match="test or valid, got 'train'"):
        score(run, split="train")
    with pytest.raises(UsageError, match="no reference 'noise'; expected one of mixture, oracle"):
        reference("noise", root=run.root, data=songs)
    with pytest.raises(SepkitError, match=r"no run 'C-s0' under .*; train it first"):
        score("C-s0", root=run.root)
    run.write_status(state="running")
    with pytest.raises(
        SepkitError, match="Base-s0 was stopped after 1 epoch; the same call goes on; train it to its end"
    ):
        score(run)
    assert not run.scores_path.exists()


@pytest.mark.parametrize("fault", ["nan", "short", "refused"])
def test_a_song_with_a_bad_estimate_is_undefined_and_the_others_go_on(run, score, monkeypatch, fault):
    """S15, S17: never an exception that loses other songs, never a flattering number."""
    monkeypatch.setattr(module, "make_estimator", lambda run, device: Faulty(fault))
    table = score(run)
    assert table["track"].nunique() == 3
    bad = table[table["track"] == "T0 - Test"]
    assert len(bad) == 2 * len(METRICS)
    assert bad["value"].isna().all()
    reason = {"nan": "NaN or infinite", "short": "83200", "refused": "no window fits"}[fault]
    assert bad["status"].str.startswith("undefined: ").all()
    assert bad["status"].str.contains(reason).all()
    assert set(bad["frames"]) == {0}
    assert set(bad["frames_dropped"]) == {2}
    assert np.isfinite(value(table, "T2 - Test", "vocals", "sdr_bsseval"))
    frames = read_frames(frames_beside(run.scores_path))
    assert frames[frames["track"] == "T0 - Test"]["sdr_bsseval"].isna().tolist() == [True] * 4


class Faulty:
    """Half the mixture as vocals, but spoilt for the song of exactly two seconds with vocals."""

    def __init__(self, fault):
        self.fault = fault

    def __call__(self, mixture, target, song):
        vocals = 0.5 * mixture
        if mixture.shape[1] == 88200 and target["vocals"].any():
            if self.fault == "refused":
                raise SepkitError("no window fits")
            if self.fault == "nan":
                vocals[0, 100] = np.nan
            else:
                vocals = vocals[:, :-5000]
        return {"vocals": vocals, "accompaniment": mixture - 0.5 * mixture}


@pytest.fixture(scope="module")
def references(trained, songs, tmp_path_factory):
    """A root with both references scored, each alone; not to be changed."""
    path = tmp_path_factory.mktemp("references") / "root"
    shutil.copytree(trained.path, path)
    for name in BOUNDS:
        reference(name, data=songs, root=path, n_jobs=1)
    return Root.open(path, "demo")


@pytest.fixture(scope="module")
def four(songs, tiny, tmp_path_factory):
    """Base-4 after one epoch, scored: its network estimates four stems; not to be changed."""
    root = Root.open(tmp_path_factory.mktemp("four"), "demo")
    run = train("Base-4", profile=replace(tiny, epochs=1), data=songs, root=root, device="cpu")
    return run, evaluate(run, data=songs, device="cpu", n_jobs=1)


def test_a_network_of_four_sources_is_scored_on_four(four, songs):
    run, table = four
    sources = ["vocals", "drums", "bass", "other"]
    assert set(table["protocol"]) == {"4stem"}
    assert list(table["source"].unique()) == sources
    assert len(table) == 3 * 4 * len(METRICS)
    frames = read_frames(frames_beside(run.scores_path))
    assert len(frames) == 3 * 4 * 2
    clips = sepkit.estimates(run, "T2 - Test", data=songs)
    assert set(clips) == {"mixture", *sources, *(f"{source} estimate" for source in sources)}
    for source in sources:
        truth = read_wav(songs, "T2 - Test", source).astype(np.float32)
        assert np.array_equal(clips[source], truth)
        error = np.sum((truth.astype(float) - clips[f"{source} estimate"]) ** 2)
        plain = 10 * np.log10(np.sum(truth.astype(float) ** 2) / error)
        assert value(table, "T2 - Test", source, "sdr_global") == pytest.approx(plain, abs=1e-4)
        windows = frames[(frames["track"] == "T2 - Test") & (frames["source"] == source)]
        median = value(table, "T2 - Test", source, "sdr_bsseval")
        assert median == pytest.approx(windows["sdr_bsseval"].median(), abs=1.5e-6)
    assert value(table, "T2 - Test", "vocals", "sdr_onsets") != value(table, "T2 - Test", "drums", "sdr_onsets")


def test_silent_vocals_take_all_four_stems_out_of_bss_eval(four):
    _, table = four
    for source in ("drums", "bass", "other"):
        rows = table[(table["track"] == SILENT) & (table["source"] == source)].set_index("metric")
        assert rows.loc["sdr_bsseval", "status"] == "undefined: the target of vocals is silent"
        assert rows.loc["sdr_global", "status"] == rows.loc["sdr_onsets", "status"] == "ok"


def test_scores_with_another_protocol_are_scored_again(four, score, songs, scored, tmp_path):
    """Those of four sources were 2stem once."""
    shutil.copytree(four[0].root.path, tmp_path / "root")
    run = Root.open(tmp_path / "root", "demo").run("Base-4-s0")
    right = written(run)
    half = read_scores(run.scores_path).query("track != 'T0 - Test'")
    old = scored[0].query("track == 'T0 - Test'").assign(run=run.name, experiment="Base-4")
    pd.concat([old, half]).to_csv(run.scores_path, index=False)
    score(run)
    assert written(run) == right


def test_an_estimate_that_lacks_a_source_is_undefined_with_the_reason(run, score, monkeypatch):
    monkeypatch.setattr(module, "make_estimator", lambda run, device: lambda mixture, target, song: {"vocals": mixture})
    table = score(run)
    assert table["value"].isna().all()
    assert table["status"].str.contains("the estimate in track 'T0 - Test' has vocals").any()


def test_estimates_are_as_long_as_their_song_and_add_up_to_it(run, songs):
    clips = sepkit.estimates(run, "T2 - Test", data=songs)
    assert {clip.shape for clip in clips.values()} == {(2, 88213)}
    assert np.array_equal(clips["mixture"], read_wav(songs, "T2 - Test", "mixture").astype(np.float32))
    total = clips["vocals estimate"] + clips["accompaniment estimate"]
    np.testing.assert_allclose(total, clips["mixture"], atol=1e-6)
    with pytest.raises(SepkitError, match="'V0 - Valid' is not among the 3 test songs of Base-s0"):
        sepkit.estimates(run, "V0 - Valid", data=songs)


def test_the_references_lie_where_they_must(references, songs):
    mixture, oracle = (references.run(name) for name in BOUNDS)
    low, high = mixture.scores(), oracle.scores()
    assert mixture.finished
    assert set(low["run"]) == {"mixture"}
    for song in ("T0 - Test", "T2 - Test"):
        for source, stems in (("vocals", ["vocals"]), ("accompaniment", ["drums", "bass", "other"])):
            for metric in ("sdr_bsseval", "sdr_global", "si_sdr"):
                assert value(high, song, source, metric) > value(low, song, source, metric) + 1
            target, mixed = read_wav(songs, song, *stems), read_wav(songs, song, "mixture")
            cross = np.sum(target * mixed) ** 2
            closed = 10 * np.log10(cross / (np.sum(target**2) * np.sum(mixed**2) - cross))
            assert value(low, song, source, "si_sdr") == pytest.approx(closed, abs=1e-4)
            rest = mixed - target
            plain = 10 * np.log10(np.sum(target**2) / np.sum(rest**2))
            assert value(low, song, source, "sdr_global") == pytest.approx(plain, abs=1e-4)
    assert value(low, SILENT, "accompaniment", "sdr_global") == np.inf  # the mixture is the accompaniment


def test_a_reference_that_was_killed_at_its_start_goes_on(run, songs, monkeypatch):
    write_json(run.root.run("mixture").path / "config.json", {"run": "mixture"})
    assert reference("mixture", data=songs, root=run.root, n_jobs=1).finished


@pytest.mark.parametrize(
    ("name", "origin"),
    [("openunmix-small", "residual"), ("openunmix-multitask", "modelled"), ("demucs-tiny", "modelled")],
)
def test_where_the_accompaniment_comes_from(name, origin):
    size = {"channels": 4} if name == "demucs-tiny" else {"hidden_size": 8}
    assert module.accompaniment_of(module.ModelEstimate(models.build(name, **size), "cpu")) == origin


def test_the_references_say_where_their_accompaniment_comes_from(run):
    origins = {}
    for name in BOUNDS:
        write_json(run.root.run(name).path / "config.json", {"experiment": name})
        origins[name] = module.accompaniment_of(module.make_estimator(run.root.run(name)))
    assert origins == {"mixture": "mixture", "oracle": "residual"}


def test_numbers_as_names_stay_names(run, scored):
    """A song that is called 007 is scored once."""
    text = scored[1].decode().replace("T0 - Test", "007")
    run.scores_path.write_text(text)
    assert set(read_scores(run.scores_path)["track"]) == {"007", SILENT, "T2 - Test"}
    assert pd.api.types.is_string_dtype(read_scores(run.scores_path)["track"])


def test_a_metric_is_one_function(run, score, scored, monkeypatch):
    """Registered, it is a row of every song of its sources, and tables sort it as its facts say."""
    monkeypatch.setattr(metrics, "METRICS", dict(METRICS))
    monkeypatch.setattr(metrics, "LOWER_IS_BETTER", set(metrics.LOWER_IS_BETTER))

    @metrics.metric(lower_is_better=True, sources=("vocals",))
    def peak_error(estimate, target):
        if not target.sounds:
            raise metrics.Undefined("silent target")
        return float(np.abs(estimate - target.signal).max())

    ones = np.ones((2, 9))
    assert peak_error(estimate=0.5 * ones, target=ones) == 0.5
    assert np.isnan(peak_error(estimate=ones, target=0 * ones))
    assert "peak_error" in metrics.LOWER_IS_BETTER
    table = score(run)
    new = table[table["metric"] == "peak_error"].set_index("track")
    assert list(new["source"]) == ["vocals"] * 3
    assert new.loc[SILENT, "status"] == "undefined: silent target"
    assert new["value"].drop(SILENT).between(0, 1).all()
    assert table[table["metric"] != "peak_error"].reset_index(drop=True).equals(scored[0])


@pytest.mark.parametrize(("portion", "together"), [(2**28, [3]), (1, [1, 1, 1])])
def test_on_a_gpu_the_parent_separates_and_sends_portions(run, songs, monkeypatch, portion, together):
    """The same rows, however many estimates travel together; here the CPU stands for the GPU."""
    cache, names = module.scoring_songs(run, songs)
    network = module.make_estimator(run, "cpu")
    waiting = {names[0]: [network, mixture_estimate, network]}
    expected = dict(module.score_songs(waiting, cache, "cpu", 1))
    sizes, score = [], module._score

    def given(cache, song, estimates):
        sizes.append(len(estimates))
        assert network not in estimates
        return score(cache, song, estimates)

    monkeypatch.setattr(module, "PORTION_BYTES", portion)
    monkeypatch.setattr(module, "_score", given)
    assert repr(dict(module.score_songs(waiting, cache, "cuda", 1))) == repr(expected)
    assert sizes == together
