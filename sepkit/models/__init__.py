"""One architecture a file, and one call that they all answer.

A model is an nn.Module with `sources`, `sample_rate` and `channels`; called with a waveform
(batch, channel, time) it gives (batch, source, channel, time).  `build("name", **settings)` makes
the `Model` of the file that bears its name; `separate` takes a whole song, in the chunks that suit the
model: one with `normalizes_over_time` gets `chunk_s`, the length of its training clips, when it is loaded.
"""

import importlib
import inspect
from typing import Any

from sepkit.errors import UsageError
from sepkit.models.separation import separate

NAMES = (
    "openunmix-small", "openunmix-complex", "openunmix-multitask", "umxhq", "demucs-tiny", "band-split", "tfc-tdf",
)  # fmt: skip

__all__ = ["NAMES", "build", "separate"]


# trained on MUSDB18's test songs besides
CONTAMINATED = ("mdx_extra", "mdx_extra_q", "HDEMUCS_HIGH_MUSDB_PLUS")


def refuse_contaminated(name: str) -> None:
    """UsageError where `name` is a published model whose scores on the test songs mean nothing."""
    if name in CONTAMINATED:
        raise UsageError(
            f"{name} was trained on MUSDB18's test songs, on which it would be scored; take umxhq as the reference."
        )


def build(name: str, **settings: Any) -> Any:
    """The network `name`; UsageError for an unknown name or setting.

    >>> model = build("openunmix-small")
    >>> sum(parameter.numel() for parameter in model.parameters())
    3086088
    """
    refuse_contaminated(name)
    if name not in NAMES:
        raise UsageError(f"There is no model {name!r}; expected one of {', '.join(NAMES)}.")
    model = importlib.import_module(f"sepkit.models.{name.replace('-', '_')}").Model
    accepted = inspect.signature(model).parameters
    unknown = sorted(settings.keys() - accepted.keys())
    if unknown:
        raise UsageError(f"{name} has no setting {', '.join(unknown)}; it takes {', '.join(accepted)}.")
    return model(**settings)
