"""What a week at 32 kHz costs: what the rate alone removes, and what references score at both rates.

    python benchmarks/sample_rate_32k.py [--data FOLDER]

Test songs of FOLDER, or of the demo.  `ceiling`: the targets themselves, resampled to 32 kHz and back and scored at
44.1 kHz: no network at 32 kHz can do better there.  `oracle` and `mixture`: scored at 44.1 kHz, and at 32 kHz against
targets at 32 kHz, as the profile full-32k does.  sdr_bsseval (protocol 2stem, median over 1 s windows) and sdr_global, dB.
"""

import argparse
import tempfile
from collections.abc import Mapping

import numpy as np
import pandas as pd
from joblib import delayed

from sepkit.data.demo.songs import make_demo_songs
from sepkit.data.songs import Track, accompaniment, find_songs, read_song
from sepkit.devices import one_thread
from sepkit.dsp import resample
from sepkit.evaluation import bss_eval
from sepkit.evaluation.estimators import mixture_estimate, oracle_estimate
from sepkit.evaluation.metrics import sdr_global
from sepkit.parallel import progress, spread
from sepkit.profiles import PROTOCOLS

LOW, SOURCES = 32000, PROTOCOLS["2stem"]
Signals = Mapping[str, np.ndarray]


def rows(case: str, estimate: Signals, target: Signals, rate: int) -> list[dict[str, object]]:
    stacked = (np.stack([signals[name] for name in SOURCES]) for signals in (estimate, target))
    windows = bss_eval(**dict(zip(("estimate", "target"), stacked, strict=True)), sample_rate=rate)["sdr"]
    return [
        {
            "case": case,
            "source": name,
            "sdr_bsseval": float(np.nanmedian(windows[number])) if not np.isnan(windows[number]).all() else np.nan,
            "sdr_global": float(sdr_global(estimate=estimate[name], target=target[name], sample_rate=rate)),
        }
        for number, name in enumerate(SOURCES)
    ]


def measure(track: Track) -> list[dict[str, object]]:
    with one_thread("cpu"):
        audio, rate = read_song(track)
        own = {"vocals": audio["vocals"], "accompaniment": accompaniment(audio)}
        n_samples = own["vocals"].shape[-1]
        low = {name: resample(signal, rate, LOW) for name, signal in own.items()}
        back = {name: resample(signal, LOW, rate)[:, :n_samples] for name, signal in low.items()}
        found = rows("ceiling at 44.1 kHz", back, own, rate)
        for at, target, mixture in ((rate, own, audio["mixture"]), (LOW, low, resample(audio["mixture"], rate, LOW))):
            for name, estimate in (("oracle", oracle_estimate), ("mixture", mixture_estimate)):
                found += rows(f"{name} at {at / 1000:g} kHz", estimate(mixture, target), target, at)
        return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="folder of songs with train/ and test/ (default: the demo songs)")
    data = parser.parse_args().data
    with tempfile.TemporaryDirectory() as folder:
        tracks = find_songs(data or make_demo_songs(folder, train=1, valid=1)).split("test")
        results = spread((delayed(measure)(track) for track in tracks), n_jobs=-1)
        found = [row for part in progress(results, doing="song", total=len(tracks), name=lambda _: "") for row in part]
    table = pd.DataFrame(found).groupby(["case", "source"], sort=False).median(numeric_only=True)
    print(f"{len(tracks)} test songs, medians over the songs, dB")
    print(table.round(2).to_string())


if __name__ == "__main__":
    main()
