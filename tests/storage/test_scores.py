"""Windows beside scores."""

import numpy as np
import pandas as pd

from sepkit.storage.scores import BSS_EVAL_METRICS, read_frames, with_windows


def test_windows_go_to_the_scores_that_are_their_medians():
    values = {"sdr_bsseval": [1.0, np.nan, 3.0], "isr_bsseval": [np.inf] * 3, "sir_bsseval": [np.nan] * 3}
    frames = pd.DataFrame(
        {"track": "a", "source": "vocals", "frame": range(3), "sar_bsseval": [5.0, 6.0, 7.0], **values}
    )
    scores = pd.DataFrame({
        "track": "a", "source": "vocals", "metric": [*BSS_EVAL_METRICS, "si_sdr"], "value": [2.0, np.inf, np.nan, 6.1, 1.0],
    })  # fmt: skip
    found = list(with_windows(scores, frames)["windows"])
    np.testing.assert_array_equal(found[:3], [*values.values()])
    assert pd.isna(found[3]) and pd.isna(found[4])  # of other scores; no windows


def test_without_windows_none_are_known(tmp_path):
    scores = pd.DataFrame({"track": ["a"], "source": "vocals", "metric": "sdr_bsseval", "value": 2.0})
    assert with_windows(scores, read_frames(tmp_path / "frames.csv"))["windows"].isna().all()
