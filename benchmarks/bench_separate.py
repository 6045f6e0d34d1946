"""Peak memory and real-time factor of `separate`: Base at full size with random weights, noise of several lengths.

    python benchmarks/bench_separate.py --minutes 4 10 60
    python benchmarks/bench_separate.py --minutes 0.33 4 --openunmix    # beside openunmix's Separator, on the same weights

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
from openunmix.utils import load_separator

import sepkit
from sepkit import models
from sepkit.experiments import MENU
from sepkit.experiments.settings import resolve
from sepkit.profiles import get_profile
from sepkit.storage import Root, write_json
from tests.models.published import write_openunmix

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


def measure_openunmix(minutes: float, wiener: bool, folder: Path, tool: str) -> None:
    """One tool on umxhq's network with random weights: from the file to vocals.wav, as 32-bit float."""
    before, start = peak_mib(), time.perf_counter()
    if tool == "sepkit":
        options = {"root": folder / "root", "profile": "full", "device": "cpu", "subtype": "FLOAT", "out": folder}
        sepkit.separate([folder / "song.wav"], weights=folder / "vocals.pth", wiener=wiener, **options)
    else:
        torch.set_num_threads(1)
        separator = load_separator(str(folder), ["vocals"], niter=int(wiener), residual=wiener).eval()
        song = torch.from_numpy(sf.read(folder / "song.wav", dtype="float32")[0].T.copy())[None]
        with torch.inference_mode():
            sf.write(folder / "theirs.wav", separator(song)[0, 0].T.numpy(), RATE, subtype="FLOAT")
    seconds = time.perf_counter() - start
    what = f"{tool}{', Wiener filter' if wiener else ''}"
    print(f"{minutes:6.2f} min, {what}: peak {peak_mib():6.0f} MiB (before: {before:.0f}), {seconds:.1f} s", flush=True)


def beside_openunmix(minutes: float, wiener: bool) -> None:
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        write_openunmix(folder / "vocals.pth", max_bin=1487)
        noise = np.random.default_rng(0).normal(0, 0.1, (round(minutes * 60 * RATE), 2))
        sf.write(folder / "song.wav", noise, RATE, subtype="FLOAT")
        for tool in ("sepkit", "openunmix"):
            subprocess.run(
                [sys.executable, __file__, "--tool", tool, place, str(int(wiener)), str(minutes)], check=True
            )
        ours, theirs = (sf.read(folder / f"{name}.wav")[0] for name in ("song.vocals", "theirs"))
        apart = 10 * np.log10(np.square(ours - theirs).sum() / np.square(theirs).sum())
        print(f"{minutes:6.2f} min: the vocals differ by {apart:.0f} dB")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, nargs="+", default=[4.0, 10.0])
    parser.add_argument("--experiment", default="Base")
    parser.add_argument("--openunmix", action="store_true", help="beside openunmix's Separator")
    parser.add_argument("--tool", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.tool:
        name, place, filtered, length = options.tool
        measure_openunmix(float(length), filtered == "1", Path(place), name)
    for each in options.minutes if options.openunmix else ():
        for filtered in (False, True):
            beside_openunmix(each, filtered)
    for each in () if options.openunmix or options.tool else options.minutes:
        if len(options.minutes) > 1:
            call = [sys.executable, __file__, "--minutes", str(each), "--experiment", options.experiment]
            subprocess.run(call, check=True)
        else:
            with tempfile.TemporaryDirectory() as place:
                measure(each, options.experiment, Path(place))
