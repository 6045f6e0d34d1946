"""CPU seconds and peak memory of `separate`, beside the programs whose networks it runs: the same weights and audio.

    python benchmarks/bench_separate.py                                     # the table: 1 and 4 minutes
    python benchmarks/bench_separate.py --alone --minutes 4 10              # sepkit alone: Base of the full profile
    python benchmarks/bench_separate.py --alone --profile demo --minutes 180

Noise in stereo, 44.1 kHz, 16 bits; networks of the published sizes with random weights. From the file to vocals and
accompaniment, 32-bit float beside a peer, 16 bits alone; each in a process of its own, on one thread of the CPU: CPU seconds from the call on (the weights
are read in them, modules imported before), and the largest memory of the process. openunmix: its Separator, which takes the
whole song at once; demucs: apply_model as its own command calls it, one random shift, chunks that overlap by a quarter. A
real-time factor of 5 means: five seconds of a song take one CPU second.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import soundfile as sf
import torch
from demucs.apply import apply_model
from demucs.htdemucs import HTDemucs
from demucs.states import load_model
from openunmix.model import OpenUnmix
from openunmix.utils import load_separator

import sepkit
from sepkit import models
from sepkit.experiments import MENU
from sepkit.experiments.settings import resolve
from sepkit.profiles import get_profile
from sepkit.storage import Root, write_json

RATE = 44100
NETWORKS = {"umxhq": "vocals.pth", "umxhq, Wiener filter": "vocals.pth", "HTDemucs": "htdemucs.th"}
# of the published htdemucs, 42 million parameters
HTDEMUCS: dict[str, Any] = {"bottom_channels": 512, "dconv_mode": 3, "segment": Fraction(39, 5)}


def random_run(root: Root, experiment: str, profile: str) -> None:
    """A run that reads as finished, with the weights that training would start from."""
    settings = resolve(MENU[experiment], get_profile(profile))
    torch.manual_seed(0)
    state = models.build(**settings["model"]).state_dict()
    run = root.run(f"{experiment}-s0")
    write_json(run.path / "config.json", {"run": run.name, **settings, "seed": 0, "fold": None})
    run.write_status(state="finished", epochs=1, minutes=0.0, device="cpu")
    torch.save({"state_dict": {f"model.{name}": value for name, value in state.items()}, "epoch": 0}, run.best)


def write_networks(folder: Path) -> None:
    """As the training programs of openunmix and demucs leave them; random weights."""
    torch.manual_seed(3)
    sizes = {"nfft": 4096, "nhop": 1024, "nb_channels": 2, "hidden_size": 512}
    state = OpenUnmix(nb_bins=2049, nb_channels=2, hidden_size=512, max_bin=1487).state_dict()
    for name, value in state.items():
        if name.endswith("running_var"):
            value.uniform_(0.5, 2)
        elif value.is_floating_point():
            value.normal_(std=0.1)
    torch.save(state, folder / "vocals.pth")
    (folder / "vocals.json").write_text(json.dumps({"epochs_trained": 1, "args": sizes}))
    (folder / "separator.json").write_text(json.dumps({**sizes, "sample_rate": float(RATE)}))
    network = HTDemucs(["drums", "bass", "other", "vocals"], **HTDEMUCS)
    args, kwargs = network._init_args_kwargs
    package = {"klass": HTDemucs, "args": args, "kwargs": kwargs, "state": network.state_dict(), "training_args": {}}
    torch.save(package, folder / "htdemucs.th")


def write_noise(file: Path, minutes: float) -> None:
    noise = np.random.default_rng(0)
    with sf.SoundFile(file, "w", RATE, 2, "PCM_16", format="RF64" if minutes > 360 else "WAV") as out:
        for _ in range(round(minutes * 60)):
            out.write(noise.normal(0, 0.1, (RATE, 2)))


def peak_mib() -> float:
    """Of this process; not getrusage's, which a child inherits from its parent."""
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(lines["VmHWM"].split()[0]) / 1024


def with_sepkit(folder: Path, network: str, profile: str) -> None:
    what: dict[str, Any] = {"run": f"{network}-s0"}
    if network in NETWORKS:
        what = {"weights": folder / NETWORKS[network], "wiener": "Wiener" in network, "subtype": "FLOAT"}
    where = {"root": folder / "root", "profile": profile, "out": folder / "ours", "device": "cpu"}
    sepkit.separate(folder / "song.wav", **what, **where, sources=["vocals", "accompaniment"])


def with_peer(folder: Path, network: str) -> None:
    torch.set_num_threads(1)
    song = torch.from_numpy(sf.read(folder / "song.wav", dtype="float32")[0].T.copy())
    with torch.inference_mode():
        if network == "HTDemucs":
            package = torch.load(folder / NETWORKS[network], map_location="cpu", weights_only=False)
            model, level = load_model(package), song.mean(0)
            stems = apply_model(model, ((song - level.mean()) / level.std())[None], device="cpu")[0]
            stems = stems * level.std() + level.mean()
            vocals, rest = stems[3], stems[:3].sum(0)
        else:
            wiener = "Wiener" in network
            separator = load_separator(str(folder), ["vocals"], niter=int(wiener), residual=wiener).eval()
            vocals = separator(song[None])[0, 0]
            rest = song - vocals
    for name, samples in (("vocals", vocals), ("accompaniment", rest)):
        sf.write(folder / f"theirs.{name}.wav", samples.T.numpy(), RATE, subtype="FLOAT")


def child(folder: Path, network: str, profile: str, tool: str) -> None:
    before, start = peak_mib(), time.process_time()
    if tool == "ours":
        with_sepkit(folder, network, profile)
    else:
        with_peer(folder, network)
    print(json.dumps({"seconds": time.process_time() - start, "before": before, "peak": peak_mib()}))


def measured(folder: Path, network: str, profile: str, tool: str) -> dict[str, float]:
    """{seconds: CPU, before and peak: MiB} of a process of its own."""
    call = [sys.executable, __file__, "--child", str(folder), network, profile, tool]
    return json.loads(subprocess.run(call, capture_output=True, text=True, check=True).stdout.splitlines()[-1])


def alone(minutes: float, experiment: str, profile: str) -> str:
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        write_noise(folder / "song.wav", minutes)
        random_run(Root.open(folder / "root", profile), experiment, profile)
        found = measured(folder, experiment, profile, "ours")
    figures = "{seconds:.0f} CPU s, peak {peak:.0f} MiB (before: {before:.0f})".format(**found)
    return f"{experiment} of {profile}, {minutes:g} min: {figures}, factor {60 * minutes / found['seconds']:.1f}"


def rows(minutes: tuple[float, ...] = (1.0, 4.0)) -> list[dict[str, Any]]:
    """A line a network and length: {line, ours, peer, unit, spread, note}."""
    return [*each_row(minutes)]


def each_row(minutes: tuple[float, ...]) -> Iterator[dict[str, Any]]:
    for length in minutes:
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place)
            write_networks(folder)
            write_noise(folder / "song.wav", length)
            for network in NETWORKS:
                ours, peer = (measured(folder, network, "full", tool) for tool in ("ours", "peer"))
                mine, theirs = (sf.read(folder / f"{name}.vocals.wav")[0] for name in ("ours/song", "theirs"))
                apart = 10 * np.log10(np.square(mine - theirs).sum() / np.square(theirs).sum())
                same = "" if network == "HTDemucs" else f"; vocals {apart:.0f} dB apart"  # it shifts the song at random
                factors = " and ".join(f"{60 * length / each['seconds']:.1f}" for each in (ours, peer))
                peaks = " and ".join(f"{each['peak']:.0f} ({each['before']:.0f})" for each in (ours, peer))
                note = f"real-time factors {factors}; peak MiB (after the imports) {peaks}{same}"
                seconds = {"ours": ours["seconds"], "peer": peer["seconds"], "unit": "CPU s", "spread": "once"}
                yield {"line": f"separate, {network}, {length:g} min", **seconds, "note": note}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, nargs="+", default=[1.0, 4.0])
    parser.add_argument("--alone", action="store_true", help="sepkit alone, with random weights of an experiment")
    parser.add_argument("--experiment", default="Base")
    parser.add_argument("--profile", default="full")
    parser.add_argument("--child", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        child(Path(options.child[0]), *options.child[1:])
    elif options.alone:
        for length in options.minutes:
            print(alone(length, options.experiment, options.profile), flush=True)
    else:
        for row in each_row(tuple(options.minutes)):
            print("{line}: {ours:.1f} {unit}, the peer's {peer:.1f}; {note}".format(**row), flush=True)


if __name__ == "__main__":
    main()
