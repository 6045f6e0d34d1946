"""How time and memory grow: with songs, with a song's length, and with runs.

    python -m benchmarks.growth                # everything, some minutes
    python -m benchmarks.growth --only runs    # songs, length or runs

Each figure is of a process of its own, on one thread: CPU seconds of the work alone, and peak memory less what the process had
before it. The slope is that of the logarithms between the two largest sizes: 0 does not grow, 1 grows as the size does.
Songs are 2 s of noise in two stems; runs have the stored scores of the preview's Base with noise, 50 songs each, spread over
experiments and seeds.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import soundfile as sf
import torch

from benchmarks.bench_separate import peak_mib

SIZES = {"songs": (10, 100, 1000), "length": (1, 4, 16), "runs": (10, 50, 150, 500)}  # length in minutes
WORK = {
    "songs": ("cache, built", "cache, opened", "loader, 200 clips", "evaluation of the mixture"),
    "length": ("BSS Eval, a further estimate", "BSS Eval, the first", "separation"),
    "runs": ("scoreboard", "report"),
}  # fmt: skip
RATE = 44100


def make_songs(folder: Path, count: int) -> None:
    """As many songs to train on as to test on."""
    rng = np.random.default_rng(0)
    for split, songs in (("train", count), ("test", count)):
        for number in range(songs):
            place = folder / split / f"Artist {number // 2} - {split} {number}"
            place.mkdir(parents=True)
            for stem in ("vocals", "accompaniment"):
                sf.write(place / f"{stem}.wav", rng.normal(0, 0.1, (2 * RATE, 2)), RATE, subtype="PCM_16")


def make_runs(folder: Path, count: int) -> None:
    from benchmarks.preview import SCORES, kept, long
    from sepkit.experiments import MENU, resolve
    from sepkit.profiles import PREVIEW
    from sepkit.storage import Root, write_csv, write_json

    root, rng = Root.open(folder / "root", PREVIEW), np.random.default_rng(0)
    base = long(kept(SCORES).query("run == 'Base-s0'"))
    names = [name for name in MENU if name not in ("Base-4", "A-4")]  # those have four sources
    for number in range(count):
        name, seed = names[number % len(names)], number // len(names)
        run = root.run(f"{name}-s{seed}")
        rows = base.assign(
            run=run.name, experiment=name, seed=seed, value=base["value"] + rng.normal(0, 0.3, len(base))
        )
        write_json(run.path / "config.json", {**resolve(MENU[name], PREVIEW), "run": run.name, "profile": PREVIEW.name, "seed": seed, "fold": None})  # fmt: skip
        write_json(run.path / "status.json", {"state": "finished", "epochs": 1, "minutes": 1.0, "device": "cpu"})
        write_csv(run.scores_path, rows)
        losses = {name: rng.random(30) for name in ("train_loss", "valid_loss", "valid_sdr")}
        history = {"epoch": range(1, 31), **losses, "learning_rate": 1e-3, "seconds": 2.0}
        pd.DataFrame(history).to_csv(run.path / "history.csv", index=False)
        root.add_minutes(run=run.name, stage="train", minutes=1.0, device="cpu", gpu_attached=False)


def work(name: str, folder: Path, size: int) -> Callable[[], object]:
    """The call to measure; what it needs is made by then."""
    import sepkit
    from sepkit.data.batches import TrainingClips
    from sepkit.data.build import build_cache
    from sepkit.data.cache import CacheSettings
    from sepkit.data.songs import find_songs
    from sepkit.storage import Root

    songs = folder / "songs"

    def cached(place: str = "root"):
        return build_cache(find_songs(songs), Root.open(folder / place, "demo"), CacheSettings(), ["train"], n_jobs=1)

    if name == "cache, built":
        return lambda: cached("built")
    if name == "cache, opened":
        cached()
        return cached
    if name == "loader, 200 clips":
        clips = TrainingClips(cached(), seconds=1.0, seed=0)
        return lambda: [clips[0, index] for index in range(200)]
    if name == "evaluation of the mixture":
        where = {"profile": "demo", "data": songs, "root": folder / "root"}
        return lambda: sepkit.evaluate_many(["mixture"], device="cpu", n_jobs=1, **where)
    if name == "scoreboard":
        return lambda: sepkit.scoreboard(folder / "root", "preview")
    if name == "report":
        return lambda: sepkit.report(folder / "root", "preview")
    return of_length(name, size)


def of_length(name: str, minutes: int) -> Callable[[], object]:
    from benchmarks.bench_bss_eval import song
    from sepkit import models
    from sepkit.evaluation.bsseval import References

    if name == "separation":
        model = models.build("openunmix-small", hidden_size=64).eval()
        blocks = (np.full((2, RATE), 0.1, np.float32) for _ in range(60 * minutes))
        return lambda: sum(piece["vocals"].shape[1] for piece in models.separation.stream(model, blocks))
    target, estimate = song(2, 60.0 * minutes)
    references = References(target, RATE)
    if name.endswith("further estimate"):
        references.score(estimate)
    return lambda: references.score(estimate)


def measure(name: str, folder: Path, size: int) -> tuple[float, float]:
    torch.set_num_threads(1)
    call, before = work(name, folder, size), peak_mib()
    start = time.process_time()
    call()
    return time.process_time() - start, peak_mib() - before


def table(kind: str) -> list[str]:
    sizes = SIZES[kind]
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in WORK[kind]}
    for size in sizes:
        with tempfile.TemporaryDirectory() as place:
            if kind != "length":
                (make_songs if kind == "songs" else make_runs)(
                    Path(place) / "songs" if kind == "songs" else Path(place), size
                )
            for name in WORK[kind]:
                call = [sys.executable, "-m", "benchmarks.growth", "--child", name, place, str(size)]
                done = subprocess.run(call, capture_output=True, text=True)
                if done.returncode:
                    raise SystemExit(f"{name} of {size}: {done.stderr[-2000:]}")
                found[name].append(tuple(json.loads(done.stdout.splitlines()[-1])))
    unit = {"songs": "songs", "length": "minutes", "runs": "runs"}[kind]
    lines = [
        f"| {kind} | {' | '.join(f'{size} {unit}' for size in sizes)} | slope |",
        f"|---|{'---|' * len(sizes)}---|",
    ]
    for name, values in found.items():
        cells = [f"{seconds:.3g} s, {mib:.0f} MiB" for seconds, mib in values]
        steps = np.log(sizes[-1] / sizes[-2])
        slopes = [np.log(max(last, 1e-9) / max(former, 1e-9)) / steps for former, last in zip(values[-2], values[-1], strict=True)]  # fmt: skip
        lines.append(f"| {name} | {' | '.join(cells)} | {slopes[0]:.2f}, {slopes[1]:.2f} |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=tuple(SIZES))
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        name, place, size = options.child
        print(json.dumps(measure(name, Path(place), int(size))))
        return
    for kind in [options.only] if options.only else SIZES:
        print("\n".join(["", *table(kind)]), flush=True)


if __name__ == "__main__":
    main()
