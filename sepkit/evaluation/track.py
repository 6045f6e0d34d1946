"""All scores of one track: estimates against the targets that are scored together."""

import math
from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np

from sepkit.errors import SepkitError
from sepkit.evaluation.bsseval import References
from sepkit.evaluation.metrics import AXES, BSS_EVAL_METRICS, Target, Undefined, metrics_of
from sepkit.evaluation.signals import Array, checked
from sepkit.profiles import PROTOCOLS, SAMPLE_RATE

Rows = list[dict[str, Any]]


class Targets:
    """The targets of one track, by source, and all that depends on them alone: score many estimates with one.

    target: `(channel, time)` by source; exactly the sources of the protocol, "2stem" or "4stem"; sample_rate: Hz;
    track: the song's name, for messages.

    Raises SepkitError, naming track and source, where sources are missing, shapes or lengths differ or samples are not
    finite; `score` does so for estimates.

    >>> target = {name: np.random.default_rng(0).standard_normal((2, 8000)) for name in PROTOCOLS["2stem"]}
    >>> rows, frames = Targets(target, sample_rate=4000).score(target)
    >>> rows[0]["source"], rows[0]["metric"], rows[0]["value"], rows[0]["frames"], rows[0]["status"]
    ('vocals', 'sdr_bsseval', inf, 2, 'ok')
    >>> len(frames), frames[3]["source"], frames[3]["frame"], frames[3]["sar_bsseval"]
    (4, 'accompaniment', 1, inf)
    """

    def __init__(
        self, target: Mapping[str, Any], sample_rate: int = SAMPLE_RATE, protocol: str = "2stem", track: str = ""
    ) -> None:
        if protocol not in PROTOCOLS:
            raise SepkitError(f"protocol must be one of {', '.join(PROTOCOLS)}; got {protocol!r}.")
        self.protocol, self.track = protocol, track
        self.references = References(self._stack(target, "target"), sample_rate)
        self.n_windows = self.references.n_windows
        lags = (partial(self.references.lags, i) for i in range(self.references.sources))
        targets = (Target(signal, sample_rate, own) for signal, own in zip(self.references.target, lags, strict=True))
        self.sources = dict(zip(PROTOCOLS[protocol], targets, strict=True))

    def score(self, estimate: Mapping[str, Any]) -> tuple[Rows, Rows]:
        """(a row for every source and metric, a row for every source and window).

        The first have source, metric, value (dB or NaN), protocol, frames (windows that count), frames_dropped, and
        status: "ok" or "undefined: " with the reason; the others source, frame (the second at which the window begins)
        and the BSS_EVAL_METRICS in dB.
        """
        stacked = self._stack(estimate, "estimate", self.references.target)
        scores, lags = self.references.score_and_lags(stacked)
        windows = {f"{name}_bsseval": values for name, values in scores.items()}
        reasons, rows = self.references.reasons(stacked, list(self.sources)), []
        for i, (source, target) in enumerate(self.sources.items()):
            for name, entry in metrics_of(source).items():
                if entry.score is None:
                    values = windows[name][i]
                    count, status = int((~np.isnan(values)).sum()), reasons[i]
                    value = float(np.nanmedian(values)) if count else math.nan
                else:
                    count = entry.n_windows(target) if entry.n_windows else self.n_windows
                    shared = {"lags": lags[i]} if entry.with_lags and lags is not None else {}
                    try:
                        value, status = entry.score(stacked[i], target, **shared), "ok"
                    except Undefined as reason:
                        value, status = math.nan, f"undefined: {reason}"
                rows.append(self._row(source, name, value, count, status))
        return rows, self._frames(windows)

    def undefined(self, reason: str) -> tuple[Rows, Rows]:
        """What `score` returns for an estimate that can't be scored."""
        status = f"undefined: {' '.join(reason.split())}"
        rows = [self._row(source, name, math.nan, 0, status) for source in self.sources for name in metrics_of(source)]
        return rows, self._frames(dict.fromkeys(BSS_EVAL_METRICS, np.full(self.references.silent.shape, math.nan)))

    def _row(self, source: str, name: str, value: float, count: int, status: str) -> dict[str, Any]:
        counts = {"frames": count, "frames_dropped": self.n_windows - count}
        return {"source": source, "metric": name, "value": value, "protocol": self.protocol, **counts, "status": status}

    def _frames(self, windows: Mapping[str, Array]) -> Rows:
        return [
            {"source": source, "frame": frame, **{name: float(of[i, frame]) for name, of in windows.items()}}
            for i, source in enumerate(self.sources)
            for frame in range(self.n_windows)
        ]

    def _stack(self, signals: Mapping[str, Any], kind: str, like: Array | None = None) -> Array:
        """`(source, channel, time)` in the protocol's order, each source checked under its own name."""
        names, place = PROTOCOLS[self.protocol], f" in track {self.track!r}" if self.track else ""
        if set(signals) != set(names):
            raise SepkitError(
                f"protocol {self.protocol} scores {', '.join(names)} together; the {kind}{place} has {', '.join(signals) or 'nothing'}."
            )
        arrays: list[Array] = []
        for i, name in enumerate(names):
            # A target must look like the first target, an estimate like its own target.
            model = like[i] if like is not None else (arrays[0] if arrays else None)
            arrays.append(checked(signals[name], f"{kind} of {name!r}{place}", AXES, like=model))
        return np.stack(arrays)


def score_track(*, estimate: Mapping[str, Any], target: Mapping[str, Any], **options: Any) -> Rows:
    """All scores of one track: the rows of `Targets(target, **options).score`, where there is a single estimate."""
    return Targets(target, **options).score(estimate)[0]
