"""`separate`: the sources of audio files, as WAV files beside them."""

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import soundfile as sf

from sepkit.commands import DEVICE
from sepkit.devices import device_name, one_thread, pick_device
from sepkit.errors import SepkitError
from sepkit.experiments import MENU
from sepkit.models import separation
from sepkit.profiles import ProfileLike
from sepkit.storage import Root, RootLike, Run, writing
from sepkit.storage.checkpoints import load_model
from sepkit.storage.ledger import spending

MADE_BY = "made by sepkit with "  # a result's comment, with its run's name
ARGUMENTS = {
    "files": {"nargs": "+", "help": "WAV or FLAC files"},
    "--run": {"default": "Base-s0", "help": "a trained run, or an experiment (default: Base-s0)"},
    "--out": {"help": "folder for the results (default: beside each file)"},
    "--overwrite": {"action": "store_true", "help": "replace files that sepkit did not make"},
    **DEVICE,
}


def separate(
    files: Iterable[Path | str],
    *,
    run: Run | str = "Base-s0",
    root: RootLike = None,
    profile: ProfileLike = None,
    out: Path | str | None = None,
    overwrite: bool = False,
    device: str | None = None,
) -> list[Path]:
    """Separates WAV or FLAC files with the best weights of `run`; writes <name>.<source>.wav beside them.

    Each file keeps its rate and its length to the sample; a mono file gives stereo sources. Written as 16-bit PCM;
    samples beyond full scale are clipped, and a line says so. Earlier results of sepkit are replaced.
    Raises SepkitError before any work where a result would replace one of `files` or, without `overwrite`, a file that
    sepkit did not make.
    """
    folders = {path: Path(out or path.parent) for path in map(Path, files)}
    for path in folders:
        _check_audio(path)
    if not isinstance(run, Run):
        root = Root.open(root, profile)
        run = root.run_of(run) if run in MENU else root.run(run)
    model, device = load_model(run), pick_device(device)
    sources = separation.complete(dict.fromkeys(model.sources, np.zeros(1)), np.zeros(1))
    results = {path: {of: folder / f"{path.stem}.{of}.wav" for of in sources} for path, folder in folders.items()}
    replaced = _check_results(results, overwrite)
    with spending(run.root, run=run.name, stage="separate", device=device_name(device)), one_thread(device):
        for path, own in results.items():
            notes = _separate(path, own, model, device, f"{MADE_BY}{run.name}")
            notes += [f"replaced {file.name}, {replaced[file]}" for file in own.values() if file in replaced]
            said = f" ({'; '.join(notes)})" if notes else ""
            print(f"{path.name}: {', '.join(own)} in {folders[path]}{said}")
    return [file for own in results.values() for file in own.values()]


def _separate(path: Path, results: dict[str, Path], model: Any, device: str, comment: str) -> list[str]:
    """Writes the sources of one file; returns notes for its line."""
    audio, sample_rate = sf.read(path, dtype="float32", always_2d=True)
    notes = ["mono, taken as two equal channels"] if audio.shape[1] == 1 else []
    if sample_rate != model.sample_rate:
        notes.append(f"{sample_rate} Hz, resampled to the model's {model.sample_rate} Hz and back")
    try:
        estimates = separation.separate(model, audio.T, sample_rate, device=device)
    except SepkitError as error:
        raise SepkitError(f"{path}: {error}") from error
    for source, samples in estimates.items():
        if over := int(np.count_nonzero(np.abs(samples) > 1)):
            notes.append(f"{source}: {over} samples clipped at full scale")
        with writing(results[source]) as part, sf.SoundFile(part, "w", sample_rate, 2, "PCM_16", format="WAV") as wav:
            wav.comment = comment
            wav.write(np.clip(samples.T, -1, 1))
    return notes


def _check_audio(path: Path) -> None:
    if not path.is_file():
        raise SepkitError(f"There is no file {path}; give WAV or FLAC files.")
    try:
        info = sf.info(path)
    except RuntimeError as error:
        raise SepkitError(f"{path} is not audio that can be read here ({error}); convert it to WAV.") from error
    if info.frames == 0 or info.channels > 2:
        raise SepkitError(f"{path} has {info.frames} samples in {info.channels} channels; expected sound in 1 or 2.")


def _check_results(results: dict[Path, dict[str, Path]], overwrite: bool) -> dict[Path, str]:
    """{existing file that will be replaced: what made it}; SepkitError where one must not be."""
    inputs = {path.resolve() for path in results}
    taken, replaced = dict[Path, Path](), dict[Path, str]()
    for path, file in [(path, file) for path, own in results.items() for file in own.values()]:
        place, made_by = file.resolve(), ""
        if taken.setdefault(place, path) != path:
            raise SepkitError(f"{taken[place]} and {path} would both write {file}; rename one.")
        if place in inputs:
            raise SepkitError(f"{path} would write {file}, which is a file to separate; give another --out.")
        if file.exists():
            with suppress(RuntimeError), sf.SoundFile(file) as wav:  # RuntimeError: no audio
                made_by = wav.comment
            if not (overwrite or made_by.startswith(MADE_BY)):
                text = f"{path} would replace {file}, which sepkit did not make"
                raise SepkitError(f"{text}; give another --out, or --overwrite.")
            replaced[file] = made_by or "not made by sepkit"
    return replaced
