"""`separate`: the sources of audio files, as WAV files beside them."""

import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import soundfile as sf

from sepkit.commands import DEVICE
from sepkit.data.sound import Sound, on_disk
from sepkit.devices import device_name, one_thread, pick_device
from sepkit.errors import SepkitError, UsageError
from sepkit.evaluation.given import reference
from sepkit.experiments import MENU
from sepkit.models import separation
from sepkit.models.files import network_of
from sepkit.profiles import ProfileLike
from sepkit.storage import Root, RootLike, Run, writing
from sepkit.storage.checkpoints import load_model
from sepkit.storage.files import file_name
from sepkit.storage.ledger import spending

DEPTHS = {"PCM_16": (2, "16 bits"), "PCM_24": (3, "24 bits"), "FLOAT": (4, "32-bit float")}  # bytes a sample; in words
DEPTH_OF = dict.fromkeys(("PCM_24", "ALAC_20", "ALAC_24"), "PCM_24")  # of a file's subtype; PCM_16 for all others
DEPTH_OF |= dict.fromkeys(("FLOAT", "DOUBLE", "PCM_32", "ALAC_32"), "FLOAT")
WAV_BYTES = 2**32 - 2**20  # longer results are RF64, which is WAV with longer lengths
BLOCK_S = 1.0  # of a file that is read at once
ARGUMENTS = {
    "files": {"nargs": "+", "help": "WAV or FLAC files"},
    "--run": {"default": "Base-s0", "help": "a trained run, or an experiment (default: Base-s0)"},
    "--weights": {"help": "separate with this checkpoint of openunmix or demucs instead of a run"},
    "--wiener": {"action": "store_true", "help": "with openunmix's Wiener filter, where the network is openunmix's"},
    "--out": {"help": "folder for the results (default: beside each file)"},
    "--subtype": {"choices": tuple(DEPTHS), "help": "depth of the results (default: that of each file)"},
    **DEVICE,
}


def separate(
    files: Iterable[Path | str] | Path | str,
    *,
    run: Run | str = "Base-s0",
    weights: Path | str | None = None,
    wiener: bool = False,
    root: RootLike = None,
    profile: ProfileLike = None,
    out: Path | str | None = None,
    subtype: str | None = None,
    device: str | None = None,
) -> list[Path]:
    """Separates WAV or FLAC files with the best weights of `run`, umxhq among them; writes <name>.<source>.wav beside them.

    weights: a checkpoint of openunmix or demucs, used instead of a run; wiener: openunmix's Wiener filter after its network.

    Each file keeps its rate, its length to the sample and its depth (16 or 24 bits, or 32-bit float) unless `subtype`,
    PCM_16, PCM_24 or FLOAT, says otherwise; a line says which.  A mono file gives two equal channels.  Samples beyond
    full scale are clipped, and the line says so; float keeps them.  Memory does not grow with a file's length.

    Earlier results of the same run and file are replaced, and a line says so.  Where another file has such a name, the
    result is <name>.<run>.<source>.wav.  Raises SepkitError before any work where results would replace one of `files`
    or another file; and at the end, by name, for files that could not be separated: the others are.
    """
    files = [files] if isinstance(files, str | Path) else files
    given = {
        os.path.normpath(path.absolute()): path for path in map(Path, files)
    }.values()  # the same file twice is one
    if subtype not in (None, *DEPTHS):
        raise UsageError(f"There is no subtype {subtype!r}; expected one of {', '.join(DEPTHS)}.")
    failed: dict[Path, str] = {}
    for path in given:
        with _noting(failed, path):
            Sound(path).close()
    results: dict[Path, dict[str, Path]] = {}
    if len(failed) < len(given):
        (root, name, model), device = _network(run, weights, wiener, root, profile), pick_device(device)
        sources = tuple(separation.complete(dict.fromkeys(model.sources, np.zeros(1)), np.zeros(1)))
        inputs, songs = {path.resolve() for path in given}, [path for path in given if path not in failed]
        results = {path: _places(path, Path(out or path.parent), sources, name, inputs) for path in songs}
        _check_places(results)
        with spending(root, run=name, stage="separate", device=device_name(device)), one_thread(device):
            for path, own in results.items():
                with _noting(failed, path):
                    notes = _separate(path, own, model, device, subtype, _made_by(name, path))
                    print(f"{path.name}: {', '.join(own)} in {_folder(own)} ({'; '.join(notes)})", flush=True)
    if failed:
        count = f"{len(failed)} of {len(given)} files could not be separated: " if len(given) > 1 else ""
        raise SepkitError(count + " ".join(failed.values()))
    return [file for own in results.values() for file in own.values()]


def _network(
    run: Run | str, weights: Path | str | None, wiener: bool, root: RootLike, profile: ProfileLike
) -> tuple[Root, str, Any]:
    """(root whose record has the minutes, name of the run or of the file, network)."""
    if weights is not None:
        root, name, model = Root.open(root, profile), Path(weights).stem, network_of(weights)[0]
    else:
        if not isinstance(run, Run):
            root = Root.open(root, profile)
            run = root.run_of(run) if run in MENU else reference(root.run(run), profile)
        root, name, model = run.root, run.name, load_model(run)
    if wiener and not hasattr(model, "wiener"):
        raise UsageError(f"{name} is no network of openunmix, whose Wiener filter this is; leave it out.")
    model.wiener = wiener or getattr(model, "wiener", False)
    return root, name, model


@contextmanager
def _noting(failed: dict[Path, str], path: Path) -> Iterator[None]:
    """A SepkitError in its block goes into `failed`, and the other files go on."""
    try:
        yield
    except SepkitError as error:
        failed[path] = str(error) if str(path) in str(error) else f"{path}: {error}"


def _folder(results: Mapping[str, Path]) -> Path:
    return next(iter(results.values())).parent


def _made_by(run: str, path: Path) -> str:
    """The comment in a result, by which it is known again."""
    return f"made by sepkit with {run} from {path.name}".encode(errors="backslashreplace").decode()


def _comment(file: Path) -> str:
    with suppress(RuntimeError, OSError), sf.SoundFile(on_disk(file)) as wav:
        return wav.comment
    return ""


def _places(path: Path, folder: Path, sources: Iterable[str], run: str, inputs: set[Path]) -> dict[str, Path]:
    """Where the sources of one file go; SepkitError where both names of one are taken, or the first by an input."""
    results = {}
    for source in sources:
        for ending in (f".{source}.wav", f".{run}.{source}.wav"):
            file = folder / file_name(path.stem, ending)
            if file.resolve() in inputs:
                raise SepkitError(f"{path} would write {file}, which is a file to separate; give another --out.")
            if not os.path.lexists(file) or _comment(file) == _made_by(run, path):
                break
        else:
            raise SepkitError(f"{path} would replace {file}, which is not its result; give another --out.")
        results[source] = file
    return results


def _check_places(results: dict[Path, dict[str, Path]]) -> None:
    """SepkitError where two files have one result, or a folder takes none."""
    taken: dict[Path, Path] = {}
    for path, file in [(path, file) for path, own in results.items() for file in own.values()]:
        if taken.setdefault(file.resolve(), path) != path:
            raise SepkitError(f"{taken[file.resolve()]} and {path} would both write {file}; rename one.")
    for folder in {_folder(own) for own in results.values()}:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=folder).close()
        except OSError as error:
            message = f"Results can't be written to {folder} ({error.strerror}); give another --out."
            raise SepkitError(message) from error


def _separate(
    path: Path, results: dict[str, Path], model: Any, device: str, subtype: str | None, comment: str
) -> list[str]:
    """Writes the sources of one file; returns notes for its line.  Where it raises SepkitError, no result is there."""
    folder = _folder(results)
    with Sound(path) as song:
        rate, mono, subtype = song.samplerate, song.channels == 1, subtype or DEPTH_OF.get(song.subtype, "PCM_16")
        size, done, over = (song.n_samples or 0) * 2 * DEPTHS[subtype][0], 0, dict.fromkeys(results, 0)
        notes = [DEPTHS[subtype][1]] + mono * ["mono, taken as two equal channels"]
        if rate != model.sample_rate:
            notes.append(f"{rate} Hz, resampled to the model's {model.sample_rate} Hz and back")
        for source, file in results.items():
            notes += [f"replaced {file.name}"] if file.exists() else []
            if file.name != file_name(path.stem, f".{source}.wav"):
                notes.append(f"{source} as {file.name}, beside another file of that name")
        try:
            if (free := shutil.disk_usage(folder).free) < size * len(results):
                raise OSError(f"{size * len(results) / 1e6:.1f} MB are needed, {free / 1e6:.1f} MB are free")
            with ExitStack() as stack:
                wavs, form = {}, "RF64" if size > WAV_BYTES else "WAV"
                for source, file in results.items():
                    part = on_disk(stack.enter_context(writing(file)))
                    wavs[source] = stack.enter_context(sf.SoundFile(part, "w", rate, 2, subtype, format=form))
                    wavs[source].comment = comment
                for piece in separation.stream(model, song.blocks(BLOCK_S), rate, device=device):
                    for source, samples in piece.items():
                        samples = np.broadcast_to(samples.mean(axis=0), samples.shape) if mono else samples
                        if subtype != "FLOAT":
                            over[source] += int(np.count_nonzero(np.abs(samples) > 1))
                            samples = np.clip(samples, -1, 1)
                        wavs[source].write(samples.T)
                    done += samples.shape[1]
        except (sf.SoundFileError, OSError) as error:
            reason = f"no space left in {folder} for its results, or another limit there ({error})"
            raise SepkitError(f"{path}: {reason}; make room, or give another --out.") from error
    if song.n_samples not in (None, done):  # of an MP3 file
        notes.append(f"{done / rate:.2f} s of the {song.n_samples / rate:.2f} s that its header says")
    return notes + [f"{source}: {count} samples clipped at full scale" for source, count in over.items() if count]
