"""What a user brings from outside this package, named as `package.module:Name`: networks, experiments, loggers.

The module is found where Python finds any, and in the current folder.
"""

import importlib
import sys
from pathlib import Path
from typing import Any

import torch
from torch import nn

from sepkit import models
from sepkit.dsp import STFT
from sepkit.errors import SepkitError, UsageError
from sepkit.profiles import PROTOCOLS

SOURCES = dict.fromkeys(source for protocol in PROTOCOLS.values() for source in protocol)


def imported(name: str) -> Any:
    """What `package.module:Name` names; UsageError where it can't be imported."""
    module, _, attribute = name.partition(":")
    if not all(part.isidentifier() for part in (*module.split("."), attribute)):
        raise UsageError(f"Expected package.module:Name, got {name!r}.")
    if not {"", here := str(Path.cwd())} & {*sys.path}:  # as in the program `sepkit` and in workers
        sys.path.append(here)
    try:
        return getattr(importlib.import_module(module), attribute)
    except Exception as error:  # whatever the user's code raises
        why, fix = f"importing it raises {said(error)}", "mend it"
        if isinstance(error, ModuleNotFoundError) and f"{module}.".startswith(f"{error.name}."):
            why = f"there is no {module.replace('.', '/')}.py in {here} or in a folder of PYTHONPATH"
            fix = "call from the folder that holds it, or set PYTHONPATH"
        raise UsageError(f"{name} needs the module {module}, but {why}; {fix}.") from error


def network_class(name: str) -> type[nn.Module]:
    """The class of the network `package.module:Class`; UsageError where it is none."""
    found = imported(name)
    if not (isinstance(found, type) and issubclass(found, nn.Module) and models.Network in found.__mro__):
        raise UsageError(f"Expected {name} to be a class of nn.Module and sepkit.models.Network, found {found!r}.")
    return found


def check(model: Any, name: str, sample_rate: int, seconds: float) -> None:
    """UsageError where `model` does not answer as `Network` says; asked with noise as long as a clip, and a sample less."""
    facts = {fact: getattr(model, fact, "none") for fact in ("sources", "sample_rate", "stft")}
    sources, rate, stft = facts.values()
    right = {
        "sources": (
            f"a tuple with vocals, of {', '.join(SOURCES)}",
            isinstance(sources, tuple) and "vocals" in sources and {*sources} <= {*SOURCES},
        ),
        "sample_rate": (f"{sample_rate}, as it is made with", rate == sample_rate),
        "stft": ("None, or of a network on spectra a sepkit.dsp.STFT", stft is None or isinstance(stft, STFT)),
    }
    for fact, (expected, so) in right.items():
        if not so:
            raise UsageError(f"Expected {fact} of {name} to be {expected}; found {facts[fact]!r}.")
    if not any(each.requires_grad for each in model.parameters()):
        raise UsageError(f"Expected {name} to have parameters that training changes; found none.")
    length = round(seconds * sample_rate)
    for mixture in (0.1 * torch.randn(2, model.channels, time) for time in (length, length - 1)):
        shape = (2, len(sources), *mixture.shape[1:])
        try:
            found = model.eval()(mixture).detach()
            bad = "values that are not finite" if found.shape == shape else f"{tuple(found.shape)}"
            if found.shape == shape and found.isfinite().all():
                continue
        except Exception as error:
            bad = said(error)
        raise UsageError(
            f"Expected {name} to give finite estimates (batch, source, channel, time) = {shape} of a mixture {tuple(mixture.shape)}; found {bad}."
        )


def said(error: Exception) -> str:
    """An error of a user's code, in one line."""
    return " ".join(f"{type(error).__name__}: {error}".split()).rstrip(".: ")


def code(name: str) -> dict[str, str]:
    """{my_nets.py: its text} of the network `my_nets:Class`; empty of a network of this package."""
    if ":" not in name:
        return {}
    module = sys.modules[network_class(name).__module__]
    inside = "/__init__" * hasattr(module, "__path__")
    return {f"{module.__name__.replace('.', '/')}{inside}.py": Path(str(module.__file__)).read_text(encoding="utf-8")}


def made(name: str, settings: dict[str, Any]) -> Any:
    """The network `package.module:Class` with these settings; UsageError where its constructor fails."""
    try:
        return network_class(name)(**settings)
    except SepkitError:
        raise
    except Exception as error:
        raise UsageError(f"{name} can't be made with the settings {settings}: {said(error)}.") from error
