"""Is the metric pipeline right?  umxhq's published weights, scored here, beside published figures."""

from pathlib import Path
from typing import Any

import pandas as pd

from sepkit import models
from sepkit.devices import device_name, pick_device
from sepkit.evaluation.estimators import ModelEstimate
from sepkit.evaluation.scoring import reference, score_songs, scoring_songs
from sepkit.evaluation.statistics import summary
from sepkit.profiles import Profile
from sepkit.storage import Root, spending

PUBLISHED = "6.25 dB (four stems, Wiener filter; Stöter et al. 2019), 5.4 to 5.6 dB for vocals with the residual"


def umxhq_check(
    *,
    profile: str | Profile | None = None,
    data: Path | str | None = None,
    root: Path | str | Root | None = None,
    device: str | None = None,
    **settings: Any,
) -> str:
    """One sentence: umxhq's median sdr_bsseval of vocals on the test songs, and what was published.

    The network estimates vocals, the accompaniment is the residual; protocol 2stem.  `settings` go to
    the network.  Raises SepkitError where the weights can't be had.
    """
    network = models.build("umxhq", **settings)
    network.load_pretrained()
    run = reference("mixture", profile=profile, data=data, root=root)
    device = pick_device(device)
    estimator = ModelEstimate(network, device)
    with spending(run.root, stage="umxhq check", device=device_name(device)):
        cache, songs = scoring_songs(run, data)
        waiting = {song: [estimator] for song in songs}
        rows = [
            {"run": "umxhq", "experiment": "umxhq", "seed": 0, "fold": None, "track": song, **row}
            for song, [(scores, _)] in score_songs(waiting, cache, device, None)
            for row in scores
        ]
    figures = summary(pd.DataFrame(rows))
    return (
        f"umxhq's vocals read {figures['median']:.2f} dB sdr_bsseval here (2stem, residual accompaniment, "
        f"{figures['aggregation']}, {figures['n']} songs of the {run.config['profile']} profile); published on the "
        f"50 whole songs: {PUBLISHED}."
    )
