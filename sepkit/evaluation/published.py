"""Is the metric pipeline right?  umxhq's published weights, scored here, beside published figures."""

from pathlib import Path
from typing import Any

import pandas as pd

from sepkit import models
from sepkit.devices import device_name, pick_device
from sepkit.errors import SepkitError
from sepkit.evaluation.estimators import ModelEstimate
from sepkit.evaluation.scoring import reference, score_songs, scoring_songs
from sepkit.evaluation.statistics import summary
from sepkit.storage import spending

PUBLISHED = "6.25 dB (four stems, Wiener filter; Stöter et al. 2019), 5.4 to 5.6 dB for vocals with the residual"


def umxhq_check(
    *, data: Path | str | None = None, device: str | None = None, hidden_size: int = 512, **where: Any
) -> str:
    """One sentence: umxhq's median sdr_bsseval of vocals on the test songs, and what was published.

    The network estimates vocals, the accompaniment is the residual; protocol 2stem. where: profile and root.
    Raises SepkitError where the weights can't be had.
    """
    network, device = models.build("umxhq", hidden_size=hidden_size), pick_device(device)
    network.load_pretrained()
    run = reference("mixture", data=data, **where)
    with spending(run.root, stage="umxhq check", device=device_name(device)):
        cache, songs = scoring_songs(run, data)
        found = score_songs(
            {song: [ModelEstimate(network, device, cache.sample_rate)] for song in songs}, cache, device
        )
        facts = {"run": "umxhq", "experiment": "umxhq", "seed": 0, "fold": None}
        rows = [
            {**facts, "track": song, **row} for song, [of] in found if not isinstance(of, SepkitError) for row in of[0]
        ]
    figures = summary(pd.DataFrame(rows))
    return (
        f"umxhq's vocals read {figures['median']:.2f} dB sdr_bsseval here (2stem, residual accompaniment, "
        f"{figures['aggregation']}, {figures['n']} songs of the {run.config['profile']} profile); published on the "
        f"50 whole songs: {PUBLISHED}."
    )
