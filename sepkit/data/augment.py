"""Augmentations of a clip's sources; the mixture is their sum, whatever is done to them."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from sepkit.errors import UsageError

Augment = Callable[[np.ndarray, np.random.Generator, int], np.ndarray]


def make_augment(settings: Mapping[str, Any]) -> Augment | None:
    """The augmentation that `settings` ask for, or None for none; UsageError for an unknown name."""
    unknown = sorted(settings)
    if unknown:
        raise UsageError(f"There is no augmentation {', '.join(unknown)}.")
    return None
