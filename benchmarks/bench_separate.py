"""Peak memory and real-time factor of `separate`: Base at full size with random weights, noise of several lengths.

    python benchmarks/bench_separate.py --minutes 4 10 60

Each length is separated in a process of its own, on one thread of the CPU.  A real-time factor of 5 means: five
seconds of a song take one second.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import soundfile as sf
import torch

import sepkit
from sepkit import models
from sepkit.experiments import MENU
from sepkit.experiments.settings import resolve
from sepkit.profiles import get_profile
from sepkit.storage import Root, write_json

RATE = 44100


def random_run(root: Root, experiment: str) -> None:
    """A run of the full profile that reads as finished, with the weights that training would start from."""
    settings = resolve(MENU[experiment], get_profile("full"))
    torch.manual_seed(0)
    state = models.build(**settings["model"]).state_dict()
    run = root.run(f"{experiment}-s0")
    write_json(run.path / "config.json", {"run": run.name, **settings, "seed": 0, "fold": None})
    run.write_status(state="finished", epochs=1, minutes=0.0, device="cpu")
    torch.save({"state_dict": {f"model.{name}": value for name, value in state.items()}, "epoch": 0}, run.best)


def peak_mib() -> float:
    """Of this process; not getrusage's, which a child inherits from its parent."""
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(lines["VmHWM"].split()[0]) / 1024


def measure(minutes: float, experiment: str, folder: Path) -> None:
    song, noise = folder / "song.wav", np.random.default_rng(0)
    with sf.SoundFile(song, "w", RATE, 2, "PCM_16") as out:
        for _ in range(round(minutes * 60)):
            out.write(noise.normal(0, 0.1, (RATE, 2)))
    random_run(Root.open(folder / "root", "full"), experiment)
    before, start = peak_mib(), time.perf_counter()
    sepkit.separate([song], run=f"{experiment}-s0", root=folder / "root", profile="full", device="cpu")
    seconds = time.perf_counter() - start
    factor = 60 * minutes / seconds
    print(
        f"{minutes:6.1f} min: peak {peak_mib():6.0f} MiB (before: {before:.0f}), {seconds:.0f} s, factor {factor:.1f}"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, nargs="+", default=[4.0, 10.0])
    parser.add_argument("--experiment", default="Base")
    options = parser.parse_args()
    for each in options.minutes:
        if len(options.minutes) > 1:
            call = [sys.executable, __file__, "--minutes", str(each), "--experiment", options.experiment]
            subprocess.run(call, check=True)
        else:
            with tempfile.TemporaryDirectory() as place:
                measure(each, options.experiment, Path(place))
