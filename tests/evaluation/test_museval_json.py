"""museval's format, out and in: its own reader and writer on the other side."""

import importlib
import importlib.util
import json
import sys
import types
import warnings

import numpy as np
import pandas as pd
import pytest

from sepkit.commands.compare import compare
from sepkit.errors import SepkitError
from sepkit.evaluation.metrics import BSS_EVAL_METRICS
from sepkit.evaluation.museval_json import NAMES, read_museval, write_museval
from sepkit.evaluation.score_files import COLUMNS
from sepkit.evaluation.statistics import compare_scores
from sepkit.storage import Root, frames_beside, write_csv, write_json

SONGS = [f"Band {letter} - Song" for letter in "ABCDEFGHI"]
TWO, FOUR = ("vocals", "accompaniment"), ("vocals", "drums", "bass", "other")


@pytest.fixture(scope="module")
def museval():
    """museval.aggregate without the package's __init__, which refuses to import without ffmpeg."""
    place = importlib.util.find_spec("museval").submodule_search_locations
    package = types.ModuleType("museval")
    package.__path__ = list(place)
    kept = {name: sys.modules.pop(name) for name in list(sys.modules) if name.split(".")[0] == "museval"}
    sys.modules["museval"] = package
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield importlib.import_module("museval.aggregate")
    for name in [name for name in sys.modules if name.split(".")[0] == "museval"]:
        del sys.modules[name]
    sys.modules.update(kept)


def windows(seed, sources=TWO, count=5):
    """{song: {source: {metric: values}}}: one song is undefined, one has an undefined and an infinite window."""
    rng = np.random.default_rng(seed)
    found = {
        song: {source: {name: rng.normal(5, 2, count).round(6) for name in NAMES} for source in sources}
        for song in SONGS
    }
    for scores in found[SONGS[0]].values():
        for values in scores.values():
            values[:] = np.nan
    for scores in found[SONGS[1]].values():
        scores["SDR"][0], scores["SDR"][1] = np.nan, np.inf
    return found


def scored(root, name, found, origin="residual"):
    """A run with these windows, as `evaluate` leaves it."""
    run = root.run(name)
    experiment, seed = name.split("-s")
    write_json(run.path / "config.json", {"run": name, "experiment": experiment, "seed": int(seed), "fold": None})
    run.write_status(state="finished")
    frames, scores = [], []
    for song, sources in found.items():
        for source, metrics in sources.items():
            frames += [
                {"track": song, "source": source, "frame": i}
                | {NAMES[name]: values[i] for name, values in metrics.items()}
                for i in range(5)
            ]
            for metric, values in metrics.items():
                count = int((~np.isnan(values)).sum())
                scores.append({
                    "run": name, "experiment": experiment, "seed": int(seed), "fold": None, "track": song,
                    "source": source, "metric": NAMES[metric], "value": np.nanmedian(values) if count else np.nan,
                    "protocol": "2stem", "frames": count, "frames_dropped": 5 - count,
                    "status": "ok" if count else "undefined: silent target", "accompaniment": origin,
                })  # fmt: skip
    write_csv(frames_beside(run.scores_path), pd.DataFrame(frames))
    write_csv(run.scores_path, pd.DataFrame(scores, columns=COLUMNS))
    return run


@pytest.fixture
def run(tmp_path):
    return scored(Root.open(tmp_path / "root", "demo"), "C-s0", windows(0))


def with_museval(museval, folder, found):
    """museval's own files of `found`."""
    for song, sources in found.items():
        store = museval.TrackStore(song, win=1.0, hop=1.0)
        for source, metrics in sources.items():
            store.add_target(source, metrics)
        (folder / "test").mkdir(parents=True, exist_ok=True)
        store.validate()
        store.save(folder / "test" / f"{song}.json")
    return folder


def test_museval_reads_what_is_written_and_takes_the_same_medians(run, museval):
    folder = write_museval(run)
    assert folder == run.root.path / "results" / "C-s0"
    store = museval.EvalStore()
    store.add_eval_dir(folder)
    medians = store.agg_frames_scores()
    ours = run.scores().set_index(["track", "source", "metric"])["value"]
    assert len(medians) == len(SONGS) * 2 * 4
    for (song, source, metric), theirs in medians.items():
        if song != SONGS[1] or metric != "SDR":  # its infinite window is none in museval's format
            assert theirs == pytest.approx(ours[song, source, NAMES[metric]], abs=6e-6, nan_ok=True)
    assert np.isnan(medians[SONGS[0], "vocals", "SDR"])
    assert store.agg_frames_tracks_scores()["vocals", "SIR"] == pytest.approx(
        ours[:, "vocals", "sir_bsseval"].median(), abs=6e-6
    )


def test_files_are_strict_json_of_musevals_shape(run, museval):
    write_museval(run)
    for song in SONGS:
        text = (run.root.path / "results" / "C-s0" / "test" / f"{song}.json").read_text(encoding="utf-8")
        content = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
        own = museval.TrackStore(song, win=1.0, hop=1.0)
        for source, metrics in windows(0)[song].items():
            own.add_target(source, metrics)
        theirs = json.loads(own.json, parse_constant=lambda _: None)
        assert content["targets"] == theirs["targets"]
        assert content["museval_version"] == theirs["museval_version"]
        assert content["sepkit"]["accompaniment"] == "residual"


def test_what_is_written_comes_back_as_a_side_of_a_comparison(run):
    table = read_museval(write_museval(run))
    assert list(table.columns) == [*COLUMNS, "windows"]
    for source in TWO:
        result = compare_scores(table, run.scores(), source=source)
        assert (result.n, result.n_zero, len(result.dropped)) == (8, 8, 1)  # the infinite window is left out of both
        assert result.run == "C-s0"


def test_musevals_own_output_is_a_side_of_a_comparison(run, museval, tmp_path):
    found = windows(1)
    folder = with_museval(museval, tmp_path / "theirs", found)
    result = compare(folder, "C-s0", root=run.root)
    assert result.run == "theirs"
    assert result.n == 8
    assert "one seed: no claim" in result.method_sentence
    table = read_museval(folder)
    values = table.set_index(["track", "source", "metric"])
    song = values.loc[(SONGS[1], "vocals", "sdr_bsseval")]
    assert song["value"] == pytest.approx(np.median(found[SONGS[1]]["vocals"]["SDR"][2:]), abs=6e-6)
    assert (song["frames"], song["frames_dropped"], song["protocol"]) == (3, 2, "2stem")
    assert values.loc[(SONGS[0], "vocals", "sar_bsseval"), "status"].startswith("undefined: ")
    store = museval.EvalStore()
    store.add_eval_dir(folder)
    theirs = store.agg_frames_tracks_scores()["vocals", "SAR"]
    assert values.loc[(slice(None), "vocals", "sar_bsseval"), "value"].median() == pytest.approx(theirs)


def test_other_targets_and_unknown_origins_are_refused(run, museval, tmp_path):
    four = with_museval(museval, tmp_path / "four", windows(1, FOUR))
    with pytest.raises(SepkitError, match="four was scored as 4stem and C-s0 as 2stem"):
        compare(four, "C-s0", root=run.root)
    five = read_museval(with_museval(museval, tmp_path / "five", windows(1, (*FOUR[1:], *TWO))))
    protocols = five.drop_duplicates("source").set_index("source")["protocol"].to_dict()
    assert protocols == {
        "vocals": "2stem",
        "accompaniment": "2stem",
        "drums": "4stem",
        "bass": "4stem",
        "other": "4stem",
    }
    with pytest.raises(SepkitError, match=r"A - Song.json scores bass, drums; expected vocals and accompaniment"):
        read_museval(with_museval(museval, tmp_path / "odd", windows(1, ("drums", "bass"))))
    two = with_museval(museval, tmp_path / "two", windows(1))
    with pytest.raises(SepkitError, match="accompaniment of two is of unknown origin and that of C-s0 residual"):
        compare(two, "C-s0", source="accompaniment", root=run.root)
    (two / "test" / f"{SONGS[3]}.json").write_bytes((four / "test" / f"{SONGS[3]}.json").read_bytes())
    with pytest.raises(SepkitError, match=r"D - Song.json scores bass, drums, other, vocals and Band A"):
        read_museval(two)


def test_bad_folders_are_refused_by_their_file(tmp_path):
    with pytest.raises(SepkitError, match=r"JSON files in .*test, found none"):
        read_museval(tmp_path)
    file = tmp_path / "song.json"
    frame = {"time": 0, "duration": 2.0, "metrics": dict.fromkeys(NAMES, 1.0)}
    target = {"name": "vocals", "frames": [frame]}
    for content, words in (
        ("{", "as museval writes them in .*song.json"),
        ('{"scores": 1}', "as museval writes them in .*song.json"),
        (json.dumps({"targets": [target]}), "song.json has windows of 2.0 s; expected museval's 1 s"),
    ):
        file.write_text(content)
        with pytest.raises(SepkitError, match=words):
            read_museval(tmp_path)


@pytest.mark.parametrize(
    "stray", ["._{0}", ".ipynb_checkpoints/{0}", ".Trash-0/files/{0}", ".{0}.1.part.json"], ids=lambda stray: stray[:5]
)
@pytest.mark.parametrize("inside", ["test", "."])
def test_what_begins_with_a_dot_is_no_song(run, inside, stray):
    """S68: macOS puts ._ files beside every file, Jupyter copies into a hidden folder."""
    folder = write_museval(run)
    if inside == ".":
        for file in (folder / "test").iterdir():
            file.rename(folder / file.name)
        (folder / "test").rmdir()
        (folder / "test" / ".ipynb_checkpoints").mkdir(parents=True)
        (folder / "test" / ".ipynb_checkpoints" / "A.json").write_text("{")
    clean = read_museval(folder)
    file = folder / inside / stray.format(f"{SONGS[0]}.json")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(b"\0\5\26\7\0\2\0\0Mac OS X        \xff\xfe")
    assert read_museval(folder).equals(clean)


@pytest.mark.parametrize("times", [[0, 0.5, 1, 1.5], [0, 2, 4, 6], [15, 30, 45, 60], [0, 1, 3, 4]], ids=str)
def test_windows_that_are_not_at_each_second_are_refused(run, times):
    """S69: a step of half a second, or windows that someone left out, give other medians."""
    file = write_museval(run) / "test" / f"{SONGS[2]}.json"
    content = json.loads(file.read_text(encoding="utf-8"))
    for target in content["targets"]:
        target["frames"] = [{**frame, "time": time} for frame, time in zip(target["frames"], times, strict=False)]
    file.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(SepkitError, match=rf"{SONGS[2]}.json has windows at .*expected museval's, one at each second"):
        read_museval(file.parents[1])


def test_a_run_without_its_windows_says_what_to_do(run):
    frames_beside(run.scores_path).unlink()
    with pytest.raises(SepkitError, match=r"frames.csv has no windows of 'Band A - Song'; delete .*scores.csv"):
        write_museval(run)
    with pytest.raises(SepkitError, match="X-s0 is not scored yet"):
        write_museval(run.root.run("X-s0"))


def test_a_row_of_the_menu_stands_for_all_its_seeds(run):
    root = run.root
    for seed in (1, 2):
        scored(root, f"C-s{seed}", windows(seed))
    for seed in range(3):
        scored(root, f"Base-s{seed}", windows(10 + seed))
    methods = compare("C", "Base", root=root)
    assert methods.seeds == (3, 3)
    assert methods.method_interval is not None
    assert compare("C-s1", "Base", root=root).seeds == (1, 3)
    assert compare(root.run("C-s1"), root.run("Base-s0")).seeds == (1, 1)


def test_the_four_scores_have_names_that_say_their_definition():
    assert sorted(NAMES.values()) == sorted(BSS_EVAL_METRICS)
