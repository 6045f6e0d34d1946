"""What a lower sample rate alone costs: ceilings that no network trained at it can pass.

    python benchmarks/bandwidth.py --root work/preview --data SONGS [--profile preview] [--rate 32000]

Medians over the test songs, at 44.1 kHz, of five estimates: the true stems through `resample` to
`--rate` and back; the true stems without what lies above 16 kHz, where umxhq stops to look; the
oracle (ideal ratio mask, STFT 1024/256); the oracle computed at `--rate`; and the mixture.  The true
stems themselves would read inf.  Then oracle and mixture against true stems at `--rate`, scored
there, as the profile full-32k does.
"""

import argparse
from collections.abc import Callable

import numpy as np
import pandas as pd
import torch
from joblib import Parallel, delayed

from sepkit.data.build import build_cache
from sepkit.data.cache import Cache, CacheSettings
from sepkit.data.locate import locate_songs
from sepkit.devices import one_thread
from sepkit.dsp import STFT, resample
from sepkit.evaluation.estimators import mixture_estimate, oracle_estimate
from sepkit.evaluation.track import score_track
from sepkit.profiles import SAMPLE_RATE, get_profile
from sepkit.storage import Root

BAND_HZ = 16000
Stems = dict[str, np.ndarray]


def there(stems: Stems, rate: int) -> Stems:
    return {name: resample(audio, SAMPLE_RATE, rate) for name, audio in stems.items()}


def back(stems: Stems, rate: int, length: int) -> Stems:
    return {name: resample(audio, rate, SAMPLE_RATE)[..., :length] for name, audio in stems.items()}


def resampled(mixture: np.ndarray, target: Stems, rate: int) -> Stems:
    return back(there(target, rate), rate, mixture.shape[-1])


def limited(mixture: np.ndarray, target: Stems, rate: int) -> Stems:
    stft, estimates = STFT(4096, 1024), {}
    for name, audio in target.items():
        spectrum = stft(torch.from_numpy(audio))
        spectrum[..., int(BAND_HZ * stft.n_fft / SAMPLE_RATE) + 1 :, :] = 0
        estimates[name] = stft.inverse(spectrum, audio.shape[-1]).numpy()
    return estimates


def oracle(mixture: np.ndarray, target: Stems, rate: int) -> Stems:
    return oracle_estimate(mixture, target)


def mixture_itself(mixture: np.ndarray, target: Stems, rate: int) -> Stems:
    return mixture_estimate(mixture, target)


def oracle_at_rate(mixture: np.ndarray, target: Stems, rate: int) -> Stems:
    """As `separate` does with a network at that rate: the accompaniment is the mixture minus the vocals."""
    low = there({"mixture": mixture, **target}, rate)
    vocals = oracle_estimate(low.pop("mixture"), low)["vocals"]
    vocals = back({"vocals": vocals}, rate, mixture.shape[-1])["vocals"]
    return {"vocals": vocals, "accompaniment": mixture - vocals}


ESTIMATES: dict[str, Callable[[np.ndarray, Stems, int], Stems]] = {
    "true stems, resampled": resampled,
    "true stems, no higher than 16 kHz": limited,
    "oracle": oracle,
    "oracle at the lower rate": oracle_at_rate,
    "mixture": mixture_itself,
}
SCORED_THERE = {f"{name}, scored there": ESTIMATES[name] for name in ("oracle", "mixture")}


def score(cache: Cache, song: str, rate: int) -> list[dict[str, object]]:
    with one_thread("cpu"):
        mixture, target = cache.song(song)
        low = there({"mixture": mixture, **target}, rate)
        at_rate = (low.pop("mixture"), low)
        cases = [(name, estimate, mixture, target, SAMPLE_RATE) for name, estimate in ESTIMATES.items()]
        cases += [(name, estimate, *at_rate, rate) for name, estimate in SCORED_THERE.items()]
        return [
            {"estimate": name, "song": song, **row}
            for name, estimate, own, stems, at in cases
            for row in score_track(estimate=estimate(own, stems, rate), target=stems, sample_rate=at, track=song)
        ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", required=True)
    parser.add_argument("--data")
    parser.add_argument("--profile", default="preview")
    parser.add_argument("--rate", type=int, default=32000)
    parser.add_argument("--jobs", type=int, default=2)
    arguments = parser.parse_args()
    profile = get_profile(arguments.profile)
    root = Root.open(arguments.root, profile)
    folder = locate_songs(profile, arguments.data, root)
    cache = build_cache(folder, root, CacheSettings(sample_rate=SAMPLE_RATE), splits=("test",))
    songs = cache.names("test")
    found = Parallel(arguments.jobs)(delayed(score)(cache, song, arguments.rate) for song in songs)
    table = pd.DataFrame([row for rows in found for row in rows])
    table = table[table["metric"].isin(["sdr_bsseval", "sar_bsseval", "sdr_global", "si_sdr"])]
    print(f"{len(songs)} songs, {arguments.rate} Hz, medians in dB")
    print(
        table.groupby(["source", "metric", "estimate"])["value"]
        .median()
        .unstack()[[*ESTIMATES, *SCORED_THERE]]
        .round(2)
        .to_string()
    )


if __name__ == "__main__":
    main()
