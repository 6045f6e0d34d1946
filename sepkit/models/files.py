"""Checkpoints of openunmix's and demucs's own formats -> the network that they hold, and its weights.

Files are read with weights_only, so that they run no code; of demucs's, which name their class, only its three classes and
fractions are let in.  What needs more is refused by name, and so are networks that know MUSDB18's test songs.
"""

import importlib
import inspect
import json
import pickle
from collections.abc import Mapping
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sepkit import models
from sepkit.errors import SepkitError, UsageError
from sepkit.models import CONTAMINATED, importing, refuse_contaminated
from sepkit.models.demucs import CLASSES
from sepkit.models.weights import load_weights
from sepkit.profiles import SAMPLE_RATE, STEMS

Read = tuple[dict[str, Any], dict[str, Tensor]]
# demucs's signatures of the networks in mdx_extra and mdx_extra_q
SIGNATURES = ["e51eebcc", "a1d90b5c", "5d2d6c55", "cfa93e08", "83fc094f", "464b36d7", "14fc6a69", "7fd6ef75"]


def read_weights(path: Path | str) -> Read:
    """(settings for `models.build`, weights for `load_weights`) of a checkpoint that another program wrote.

    openunmix: <target>.pth, its state_dict, sizes by their shapes; hop and rate from <target>.json or separator.json
    beside it, else a quarter of the window and 44.1 kHz.  demucs: {"klass", "args", "kwargs", "state"}.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise UsageError(f"There is no file {path}; give a checkpoint of openunmix (.pth) or demucs (.th).")
    refuse_contaminated(CONTAMINATED[0] if path.stem.startswith(tuple(SIGNATURES)) else path.stem)
    content = _load(path)
    if isinstance(content, Mapping):
        if {"klass", "state"} <= content.keys():
            return _demucs(content, path)
        state = content.get("state_dict", content)  # openunmix's .chkpnt has it beside the optimiser's
        if isinstance(state, Mapping) and {"fc1.weight", "input_mean", "output_mean"} <= state.keys():
            return _openunmix(state, path)
    raise SepkitError(f"Expected a checkpoint of openunmix or demucs in {path}, found neither's weights.")


def network_of(path: Path | str, **more: Any) -> tuple[Any, dict[str, Any]]:
    """(network with the weights of a checkpoint as for `read_weights`, its settings and `more`)."""
    settings, state = read_weights(path)
    with torch.random.fork_rng(devices=[]):
        model = models.build(**settings, **more)
    load_weights(model, state, str(path))
    return model.eval(), {**settings, **more}


def _load(path: Path) -> Any:
    try:
        allowed: list[Any] = [Fraction]
        with suppress(ImportError, OSError):
            allowed += [getattr(importlib.import_module(module), name) for name, module in CLASSES.items()]
        with torch.serialization.safe_globals(allowed):
            return torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, EOFError, RuntimeError, pickle.UnpicklingError, LookupError, ValueError, TypeError) as error:
        strange: list[str] = []
        with suppress(Exception):  # a file that is no checkpoint
            strange = [name for name in torch.serialization.get_unsafe_globals_in_checkpoint(path)
                       if name.rpartition(".")[2] not in (*CLASSES, "Fraction")]  # fmt: skip
        why = f"it names {', '.join(strange)}, which would run code of the file" if strange else type(error).__name__
        raise SepkitError(f"{path} can't be read as weights ({why}); give one of plain weights.") from error


def _openunmix(state: Mapping[str, Tensor], path: Path) -> Read:
    source, facts = path.stem.partition("-")[0], dict[str, Any]()
    for file in (path.with_suffix(".json"), path.with_name(f"{source}.json"), path.with_name("separator.json")):
        with suppress(OSError, ValueError, AttributeError):
            found = json.loads(file.read_text(encoding="utf-8"))
            facts |= {**found, **found.get("args", {})}
    bins, n_fft = len(state["input_mean"]), 2 * (len(state["output_mean"]) - 1)
    rate = int(state.get("sample_rate", facts.get("sample_rate", SAMPLE_RATE)))
    hidden, inputs = state["fc1.weight"].shape
    if "lstm.weight_ih_l0_reverse" not in state or inputs != 2 * bins:
        raise SepkitError(f"{path} is mono or unidirectional; expected a stereo openunmix with BiLSTM.")
    settings = {
        "name": "umxhq", "sources": [source if source in STEMS else "vocals"], "sample_rate": rate, "n_fft": n_fft,
        "hop_length": int(facts.get("nhop", n_fft // 4)), "hidden_size": hidden,
        "layers": sum(key.startswith("lstm.weight_ih") for key in state) // 2,
        "bandwidth_hz": (bins - 0.5) * rate / n_fft,  # as many bins
    }  # fmt: skip
    own = {key: value for key, value in state.items() if not key.startswith(("stft.", "transform.", "sample_rate"))}
    return settings, {f"core.{key}": value for key, value in own.items()}


def _demucs(package: Mapping[str, Any], path: Path) -> Read:
    with importing("demucs", "pip install 'demucs>=4.0.1' torch torchaudio, the last two from the same index."):
        accepted = inspect.signature(package["klass"]).parameters
    if "__quantized" in package["state"]:
        raise SepkitError(f"{path} is quantised, which needs diffq to read; give the network as trained.")
    values = {**dict(zip(accepted, package["args"], strict=False)), **package["kwargs"]}
    values = {key: float(of) if isinstance(of, Fraction) else of for key, of in values.items() if key in accepted}
    sources, rate = list(values.pop("sources")), int(values.pop("samplerate", SAMPLE_RATE))
    settings = {"name": "demucs", "klass": package["klass"].__name__, "sources": sources, "sample_rate": rate}
    return {**settings, "arguments": values}, {f"core.{key}": value.float() for key, value in package["state"].items()}
