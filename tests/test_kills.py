"""SIGKILL at random instants of a short week, half of the time with a fresh root and Drive alone after it.

A child of this process fetches or caches songs, trains, scores, reports and syncs, and kills itself at the n-th file that
it opens, renames, deletes or makes in one of these stages, or a moment later. The next child goes on. At the end weights,
histories and scores are those of an undisturbed week, in the root and on Drive, and no song was scored twice but the one
in work.
"""

import hashlib
import json
import multiprocessing
import os
import random
import signal
import sys
import threading
import time
import zipfile
from collections import Counter
from contextlib import contextmanager, suppress
from dataclasses import replace

import pandas as pd
import pytest

from sepkit.data.archive import Archive
from sepkit.data.cache import CacheSettings, scoring_cache_settings
from sepkit.data.fetch import fetch_songs
from sepkit.data.opening import open_cache
from sepkit.data.songs import musdb_validation_names
from sepkit.data.tracks import SPLITS
from sepkit.errors import SepkitError
from sepkit.evaluation import score_files, scoring
from sepkit.evaluation.track import Targets
from sepkit.reporting.report import report
from sepkit.storage import Root, drive
from sepkit.storage.checkpoints import load_checkpoint
from sepkit.training.train import train
from tests.children import live, quick_score

# children are forks of a process without threads or worker pools, which earlier tests have left in this one
CLEAN = multiprocessing.get_context("forkserver")
CLEAN.set_forkserver_preload(["sepkit.reporting.report", "sepkit.reporting.figures", "sepkit.training.fit"])
NAMES = {
    "train": ("A Classic Education - NightOwl", "AvaLuna - Waterduct", min(musdb_validation_names())),
    "test": ("AM Contra - Heart Peripheral", "BKS - Too Much", "Zeno - Signs"),
}
STAGES = ("songs", "train", "evaluate", "report", "sync")
FILES = ("open", "os.rename", "os.remove", "os.mkdir")  # the audit events at which a child may be killed
KILLS_A_WEEK = 4


@pytest.fixture(scope="module")
def songs(make_song, tmp_path_factory):
    """(folder of songs under MUSDB's names, an archive of them that lies here)."""
    folder = tmp_path_factory.mktemp("hq")
    for seed, (subset, name) in enumerate((subset, name) for subset, names in NAMES.items() for name in names):
        make_song(folder / "songs" / subset / name, 1.0 + 0.1 * seed, seed=seed)
    with zipfile.ZipFile(folder / "hq.zip", "w") as out:
        for file in sorted((folder / "songs").rglob("*.wav")):
            out.write(file, file.relative_to(folder / "songs"))
    content = (folder / "hq.zip").read_bytes()
    facts = (len(content), hashlib.sha256(content).hexdigest(), sum(map(len, NAMES.values())))
    return folder / "songs", Archive("http://127.0.0.1:9/hq.zip", *facts, file=folder / "hq.zip")


@pytest.fixture(scope="module")
def undisturbed(songs, tiny, tmp_path_factory):
    """What a week comes to, and how many events each of its stages has."""
    week = Week(tmp_path_factory.mktemp("undisturbed"), songs, tiny, fetched=False)
    assert week.child() == 0, (week.place / "out.txt").read_text()
    return outcome(week.root), json.loads((week.place / "events.json").read_text())


class Week:
    """A root with its copy on Drive, and what children have logged of it."""

    def __init__(self, place, songs, tiny, *, fetched):
        self.place, self.songs, self.fetched, self.roots = place, songs, fetched, 0
        self.profile = replace(tiny, epochs=3, songs_from="given")
        self.here, self.on_drive = set(), set()  # songs whose scores are kept there
        self.new_root()

    def new_root(self):
        self.roots += 1
        self.root, self.here = Root.open(self.place / f"root{self.roots}", "demo"), set(self.on_drive)

    def child(self, kill=None):
        """Runs the week in a process of its own to its end, or to `kill` (stage, event, seconds); its exit status."""
        log = self.place / "log.txt"
        log.write_text("")
        process = CLEAN.Process(target=self._live, args=(kill, log))
        process.start()
        process.join(120)
        started = Counter()
        for what, song in (line.split("\t") for line in log.read_text().splitlines()):
            if what == "start":
                assert song not in self.here, f"{song} is scored again"
                started[song] += 1
            elif what == "add":
                self.here.add(song)
            else:
                self.on_drive |= self.here
        assert not started or max(started.values()) == 1
        return process.exitcode

    def _live(self, kill, log):
        os.environ["SEPKIT_DRIVE"] = str(self.place / "drive")
        live(self.place / "out.txt", lambda: self._week(Events(str(self.place), kill), log))

    def _week(self, events, log):
        watch_scoring(log)
        with events.stage("songs"):
            drive.pull(self.root)
            self._songs()
            drive.push(self.root, only="cache")
        with events.stage("train"):
            run = train("Base", profile=self.profile, root=self.root, device="cpu")
        with events.stage("evaluate"):
            scoring.evaluate_many([run, "mixture"], root=self.root, profile=self.profile, device="cpu", n_jobs=1)
        with events.stage("report"):
            report(self.root)
        with events.stage("sync"):
            synced = drive.push(self.root)
            assert synced.safe, str(synced)
        (self.place / "events.json").write_text(json.dumps(events.counts))

    def _songs(self):
        config = {"profile": "demo", "model": {}}
        settings = [CacheSettings(sample_rate=self.profile.sample_rate), scoring_cache_settings(config)]
        if self.fetched:
            fetch_songs(self.root, settings, self.songs[1], None, n_jobs=1)
        for each in settings:
            with suppress(SepkitError):  # Drive has no whole cache: then songs are needed
                open_cache(self.profile, None, self.root, each, SPLITS, "the test")
                continue
            assert not self.fetched
            open_cache(self.profile, self.songs[0], self.root, each, SPLITS, "the test")


class Events:
    """Counts what a child does with files below `place`, by stage, and kills it where `kill` says so."""

    def __init__(self, place, kill):
        self.place, self.kill, self.now, self.counts = place, kill, "", Counter()
        sys.addaudithook(self.seen)

    def seen(self, event, arguments):
        if self.now and event in FILES and str(arguments[0]).startswith(self.place):
            self.counts[self.now] += 1
            if self.kill and (self.now, self.counts[self.now]) == self.kill[:2]:
                self.die(self.kill[2])

    def die(self, seconds):
        if not seconds:
            os.kill(os.getpid(), signal.SIGKILL)
        threading.Thread(target=lambda: (time.sleep(seconds), self.die(0)), daemon=True).start()

    @contextmanager
    def stage(self, name):
        self.now = name
        yield
        if self.kill and self.kill[0] == name:  # the stage had fewer events left than in the undisturbed week
            self.die(0)
        self.now = ""


def watch_scoring(log):
    """Notes in `log` which song's scoring starts, is kept in the root, and is on Drive; metrics take milliseconds."""

    def note(what, song=""):
        with log.open("a") as file:
            file.write(f"{what}\t{song}\n")

    score, add, push = scoring._score, score_files.ScoreFiles.add, scoring._push

    def starting(cache, song, estimates):
        note("start", song)
        return score(cache, song, estimates)

    def keeping(self, song, *rows):
        add(self, song, *rows)
        if self.run.name == "mixture":  # the last of the two to be kept
            note("add", song)

    def pushing(runs):
        push(runs)
        note("push")

    scoring._score, score_files.ScoreFiles.add, scoring._push, Targets.score = starting, keeping, pushing, quick_score


def outcome(root):
    """Everything that must be equal: weights, epochs, scores, what they were made from, the table."""
    base, files = root.run("Base-s0"), ("scores.csv", "frames.csv")
    table = pd.read_csv(root.path / "scoreboard.csv")
    columns = ["epoch", "train_loss", "valid_loss", "valid_sdr", "learning_rate"]
    page = (root.path / "report" / "milestone2.html").read_text(encoding="utf-8")
    return {
        "weights": {
            name: {key: value.tolist() for key, value in load_checkpoint(base.path / name)["state_dict"].items()}
            for name in ("best.ckpt", "last.ckpt")
        },
        "history": base.history()[columns].to_csv(),
        "status": {key: base.status[key] for key in ("state", "epochs", "best_epoch", "best_sdr", "stopped")},
        "scores": {run: [(root.run(run).path / file).read_text() for file in files] for run in ("Base-s0", "mixture")},
        "origins": score_files.read_origins(root.run("mixture")),
        "board": table[[name for name in table if "min" not in name]].to_csv(),
        "page": page.rstrip().endswith("</html>"),
    }


def unlike(one, other):
    return [key for key, value in one.items() if value != other[key]]


def live_with_kills(seed, place, songs, tiny, events, right):
    """One week with KILLS_A_WEEK kills; (kills by stage, how many were followed by a fresh root)."""
    pick = random.Random(seed)
    week, killed, fresh = Week(place, songs, tiny, fetched=seed % 2 == 0), Counter(), 0
    stages = sorted(("songs", *pick.choices(STAGES[1:], k=KILLS_A_WEEK - 1)), key=STAGES.index)
    for number, stage in enumerate(stages):
        kill = (stage, pick.randint(1, events[stage]), pick.choice([0, pick.uniform(0, 0.05)]))
        assert week.child(kill) == -signal.SIGKILL, (kill, (place / "out.txt").read_text())
        killed[stage if stage != "songs" else "fetch" if week.fetched else "cache"] += 1
        if (number + seed) % 2:
            week.new_root()
            fresh += 1
    assert week.child() == 0, (place / "out.txt").read_text()
    assert not unlike(outcome(week.root), right)
    week.new_root()
    drive.pull(week.root, place / "drive")
    assert not unlike(outcome(week.root), right)
    return killed, fresh


def check(seeds, tmp_path, songs, tiny, undisturbed):
    right, events = undisturbed
    killed, fresh = Counter(), 0
    for seed in seeds:
        (tmp_path / str(seed)).mkdir()
        of, new = live_with_kills(seed, tmp_path / str(seed), songs, tiny, events, right)
        killed, fresh = killed + of, fresh + new
    print(
        f"{killed.total()} kills ({', '.join(f'{n} in {stage}' for stage, n in killed.items())}), {fresh} with Drive alone"
    )
    assert fresh == killed.total() // 2


def test_eight_kills_change_no_result(tmp_path, songs, tiny, undisturbed):
    check(range(2), tmp_path, songs, tiny, undisturbed)


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_forty_kills_change_no_result(tmp_path, songs, tiny, undisturbed):
    check(range(2, 12), tmp_path, songs, tiny, undisturbed)
