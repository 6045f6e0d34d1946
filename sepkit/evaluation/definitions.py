"""One song under every definition of SDR: how far apart they are, and what moves each.

Conventions: vocals, dB. The estimate is scored as it is, at half its level, and muffled by the mean of 8 samples (−3 dB
at 2.4 kHz); a definition that forgives a change of level or a filter does not move.
"""

from pathlib import Path

import numpy as np
import pandas as pd
import scipy.ndimage

from sepkit.errors import SepkitError
from sepkit.evaluation.scoring import estimates
from sepkit.evaluation.track import score_track
from sepkit.profiles import SAMPLE_RATE
from sepkit.storage import Run

DEFINITIONS = {
    "sdr_bsseval": "BSS Eval v4: median over 1 s windows, error against the target itself",
    "sdr_global": "whole track, channels pooled",
    "si_sdr": "whole track, the target scaled to fit: forgives a wrong level",
    "sdr_torchmetrics": "whole track, any 512-tap filter of the target allowed: forgives level and muffling",
}


def sdr_definitions(run: Run, data: Path | str | None = None) -> pd.DataFrame:
    """The four SDRs of one test song of `run`: a row for each, columns "as it is", "half as loud", "muffled".

    The song is the one in the middle by sdr_bsseval among those that have all four. `.attrs["song"]` names it,
    `.attrs["sentence"]` says what is to be seen.

    Raises SepkitError where the run is not scored, or on four sources, or no song has all four.
    """
    scores = run.scores().query("source == 'vocals'").pivot(index="track", columns="metric", values="value")
    scores = scores.reindex(columns=list(DEFINITIONS)).replace([np.inf, -np.inf], np.nan).dropna()
    if scores.empty:
        raise SepkitError(f"No song of {run.name} has all of {', '.join(DEFINITIONS)}; look at its scores.csv.")
    song = str(scores.sort_values("sdr_bsseval").index[len(scores) // 2])
    clips = estimates(run, song, data)
    if "accompaniment" not in clips:
        raise SepkitError(f"{run.name} is scored on four sources; show definitions on a run of two, as Base-s0.")
    target = {source: clips[source] for source in ("vocals", "accompaniment")}
    vocals = clips["vocals estimate"]
    changed = {
        "as it is": vocals,
        "half as loud": 0.5 * vocals,
        "muffled": scipy.ndimage.uniform_filter1d(vocals, 8, axis=1, mode="constant"),
    }
    table = pd.DataFrame(index=pd.Index(DEFINITIONS, name="metric"))
    for name, estimate in changed.items():
        both = {"vocals": estimate, "accompaniment": clips["mixture"] - estimate}
        rows = pd.DataFrame(score_track(estimate=both, target=target, sample_rate=SAMPLE_RATE, track=song))
        table[name] = rows[rows["source"] == "vocals"].set_index("metric")["value"]
    table["definition"] = DEFINITIONS
    plain = table["as it is"]
    table.attrs["song"] = song
    table.attrs["sentence"] = (
        f"One estimate of {song} reads {plain.min():.2f} dB by {plain.idxmin()} and {plain.max():.2f} dB by "
        f"{plain.idxmax()}: {plain.max() - plain.min():.2f} dB apart, and nothing but the definition has changed."
    )
    return table
