"""`separate`: the sources of audio files, as WAV, FLAC or MP3 files beside them."""

import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from itertools import takewhile
from pathlib import Path
from typing import Any

import numpy as np
import soundfile as sf

from sepkit.commands import DEVICE, names
from sepkit.data.layouts import LEFTOVERS
from sepkit.data.sound import AUDIO, Sound, on_disk
from sepkit.data.written import DEPTH_OF, DEPTHS, FORMATS, STEPS, create, depths_of, require_writable, undate
from sepkit.errors import SepkitError, UsageError
from sepkit.experiments import run_named
from sepkit.parallel import bar
from sepkit.profiles import ProfileLike
from sepkit.storage import Root, RootLike, Run, writing
from sepkit.storage.files import file_name
from sepkit.storage.ledger import spending

BLOCK_S = 1.0  # of a file that is read at once
MADE, WILD = "made by sepkit with ", re.compile(r"[*?[]")
ARGUMENTS = {
    "files": {"nargs": "+", "help": "audio files, folders of such, or patterns in quotes, as 'album/**/*.flac'"},
    "--run": {"default": "Base-s0", "help": "a trained run, or an experiment (default: Base-s0)"},
    "--weights": {"help": "separate with this checkpoint of openunmix or demucs instead of a run"},
    "--wiener": {"action": "store_true", "help": "with openunmix's Wiener filter, where the network is openunmix's"},
    "--out": {"help": "folder for the results (default: beside each file)"},
    "--sources": {"type": names, "help": "which to write, as vocals,accompaniment (default: all)"},
    "--format": {"choices": tuple(FORMATS), "default": "wav", "help": "of the results (default: wav)"},
    "--subtype": {
        "choices": FORMATS["wav"],
        "help": "depth of the results (default: that of each file; no float in FLAC)",
    },
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
    sources: Iterable[str] | None = None,
    format: str = "wav",
    subtype: str | None = None,
    device: str | None = None,
) -> list[Path]:
    """Separates audio files with the best weights of `run`, umxhq among them; writes <name>.<source>.wav beside them.

    files: files; folders, for all audio files in them; patterns, as album/**/*.flac.  Of the last two, hidden files and
    earlier results are left out, and their subfolders are made in `out`.  weights: a checkpoint of openunmix or demucs,
    used instead of a run; wiener: openunmix's Wiener filter after its network; sources: which to write, None is all.

    Each file keeps its rate, its length to the sample and its depth (16 or 24 bits, or 32-bit float) unless `format`, wav,
    flac or mp3, or `subtype`, PCM_16, PCM_24 or FLOAT, says otherwise; a line says which.  A mono file gives two equal
    channels.  Samples beyond full scale are clipped, and the line says so; float keeps them.  Where the accompaniment is
    the mixture minus the vocals, they add up to 16- and 24-bit files exactly, in results of that depth or more without
    clipped samples, and to float files but for float rounding.  Memory does not grow with a file's length.

    Earlier results of the same run and file are replaced, and a line says so.  Where another file has such a name, the
    result is <name>.<run>.<source>.wav.  Raises SepkitError before any work where results would replace one of `files`
    or another file; and at the end, by name, for files that could not be separated: the others are.
    """
    from sepkit.devices import device_name, one_thread, pick_device  # with torch, which --help does not need

    known, given = depths_of(format, subtype), _given(files)
    failed, depths, seconds = dict[Path, str](), dict[Path, str](), 0.0
    for path in given:
        with _noting(failed, path), Sound(path) as song:
            depth = subtype or DEPTH_OF.get(song.subtype, "PCM_16")
            depths[path] = depth if depth in known else known[-1]
            require_writable(song, format, depths[path])
            seconds += (song.n_samples or song.there or 0) / song.samplerate
    results: dict[Path, dict[str, Path]] = {}
    if len(failed) < len(given):
        (root, name, model), device = _network(run, weights, wiener, root, profile), pick_device(device)
        wanted, inputs = _sources(model, name, sources), {path.resolve() for path in given}
        for path in [path for path in given if path not in failed]:
            folder = Path(out, given[path]) if out else path.parent
            results[path] = _places(path, folder, wanted, format, name, inputs)
        _check_places(results)
        spent = spending(root, run=name, stage="separate", device=device_name(device))
        with spent, one_thread(device), bar("seconds separated", int(seconds)) as shown:
            for path, own in results.items():
                with _noting(failed, path):
                    notes = _separate(path, own, model, device, (format, depths[path]), _made_by(name, path), shown)
                    where = own[wanted[0]].parent
                    with shown.external_write_mode():
                        print(f"{path.name}: {', '.join(own)} in {where} ({'; '.join(notes)})", flush=True)
    if failed:
        count = f"{len(failed)} of {len(given)} files could not be separated: " if len(given) > 1 else ""
        raise SepkitError(count + " ".join(failed.values()))
    return [file for own in results.values() for file in own.values()]


def _given(files: Iterable[Path | str] | Path | str) -> dict[Path, Path]:
    """{file: its folder below the folder or pattern that names it}, each file once."""
    found: dict[str, tuple[Path, Path]] = {}
    for path in map(Path, [files] if isinstance(files, str | Path) else files):
        folder, chosen = path.parent, [path]
        if path.is_dir() or (not os.path.lexists(path) and WILD.search(str(path))):
            folder = path if path.is_dir() else Path(*takewhile(lambda part: not WILD.search(part), path.parts))
            try:
                roots = [path] if path.is_dir() else list(folder.glob(str(path.relative_to(folder))))
            except ValueError as error:
                raise UsageError(f"{path} is no pattern ({error}); expected one as album/**/*.flac.") from error
            inside = {file for each in roots for file in (each.rglob("*") if each.is_dir() else [each])}
            if not (chosen := [file for file in sorted(inside) if _is_input(file, folder)]):
                raise SepkitError(f"There is no audio at {path}, not counting hidden files and results; give others.")
        for file in chosen:
            found.setdefault(os.path.normpath(file.absolute()), (file, file.parent.relative_to(folder)))
    return dict(found.values())


def _is_input(file: Path, folder: Path) -> bool:
    left = any(part.startswith(".") or part.casefold() in LEFTOVERS for part in file.relative_to(folder).parts)
    return not left and file.suffix.casefold() in AUDIO and file.is_file() and not _comment(file).startswith(MADE)


def _sources(model: Any, run: str, sources: Iterable[str] | str | None) -> list[str]:
    """Those to write; UsageError for one that the network does not give."""
    from sepkit.models.separation import complete

    known = list(complete(dict.fromkeys(model.sources, np.zeros(1)), np.zeros(1)))
    wanted = known if sources is None else names(sources) if isinstance(sources, str) else [*dict.fromkeys(sources)]
    if strange := [source for source in wanted if source not in known] or ([] if wanted else ["none"]):
        raise UsageError(f"{run} gives no source {', '.join(strange)}; expected some of {', '.join(known)}.")
    return wanted


def _network(
    run: Run | str, weights: Path | str | None, wiener: bool, root: RootLike, profile: ProfileLike
) -> tuple[Root, str, Any]:
    """(root whose record has the minutes, name of the run or of the file, network)."""
    from sepkit.evaluation.given import reference
    from sepkit.models.files import network_of
    from sepkit.storage.checkpoints import load_model

    if weights is not None:
        root, name, model = Root.open(root, profile), Path(weights).stem, network_of(weights)[0]
    else:
        if not isinstance(run, Run):
            root = Root.open(root, profile)
            run = reference(run_named(root, run), profile)
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


def _made_by(run: str, path: Path) -> str:
    """The comment in a result, by which it is known again."""
    return f"{MADE}{run} from {path.name}".encode("ascii", errors="backslashreplace").decode()  # MP3 takes no others


def _comment(file: Path) -> str:
    with suppress(RuntimeError, OSError), sf.SoundFile(on_disk(file)) as wav:
        return wav.comment
    return ""


def _places(
    path: Path, folder: Path, sources: Iterable[str], format: str, run: str, inputs: set[Path]
) -> dict[str, Path]:
    """Where the sources of one file go; SepkitError where both names of one are taken, or the first by an input."""
    results = {}
    for source in sources:
        for ending in (f".{source}.{format}", f".{run}.{source}.{format}"):
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
    for folder in {file.parent for own in results.values() for file in own.values()}:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=folder).close()
        except OSError as error:
            raise SepkitError(f"Nothing can be written to {folder} ({error.strerror}); give another --out.") from error


def _finish(estimates: np.ndarray, mono: bool, step: float | None) -> np.ndarray:
    """Equal channels of a mono file; whole steps of a depth, since whole steps minus whole steps are whole again."""
    if mono:
        estimates = np.broadcast_to(estimates.mean(axis=1, keepdims=True), estimates.shape)
    return np.rint(estimates / step) * step if step else estimates


def _notes(path: Path, song: Sound, results: dict[str, Path], model: Any, form: tuple[str, str]) -> list[str]:
    """What the line about a file says before it is separated."""
    notes = [DEPTHS[form[1]][1]] + (song.channels == 1) * ["mono, taken as two equal channels"]
    if song.samplerate != model.sample_rate:
        notes.append(f"{song.samplerate} Hz, resampled to the model's {model.sample_rate} Hz and back")
    for source, file in results.items():
        notes += [f"replaced {file.name}"] if file.exists() else []
        if file.name != file_name(path.stem, f".{source}.{form[0]}"):
            notes.append(f"{source} as {file.name}, beside another file of that name")
    return notes


def _separate(
    path: Path, results: dict[str, Path], model: Any, device: str, form: tuple[str, str], comment: str, shown: Any
) -> list[str]:
    """Writes the sources of one file; returns notes for its line.  Where it raises SepkitError, no result is there."""
    from sepkit.models.separation import stream

    folder = next(iter(results.values())).parent
    with Sound(path) as song:
        notes, rate, depth = _notes(path, song, results, model, form), song.samplerate, form[1]
        size, done, over = 2 * DEPTHS[depth][0] * (song.n_samples or song.there or 0), 0, dict.fromkeys(results, 0)
        size, step = size * (form[0] == "wav"), STEPS.get(depth, STEPS["PCM_24"] if song.subtype in STEPS else None)
        try:
            if (free := shutil.disk_usage(folder).free) < (need := size * len(results)):
                raise OSError(f"{need / 1e6:.1f} MB are needed, {free / 1e6:.1f} MB are free")
            with ExitStack() as stack:
                files = {}
                for source, file in results.items():
                    part = stack.enter_context(writing(file))
                    stack.callback(undate, part)
                    files[source] = stack.enter_context(create(on_disk(part), rate, form[0], depth, size))
                    files[source].comment = comment
                finish = partial(_finish, mono=song.channels == 1, step=step)
                for piece in stream(model, song.blocks(BLOCK_S), rate, device=device, finish=finish):
                    for source, file in files.items():
                        samples = _finish(piece[source], False, step)  # libsndfile would round down
                        kept = samples if depth == "FLOAT" else np.clip(samples, -1, 1 - STEPS.get(depth, 0))
                        over[source] += int(np.count_nonzero(kept != samples))
                        file.write(kept.T)
                    done += samples.shape[1]
                    shown.update(done // rate - (done - samples.shape[1]) // rate)
        except (sf.SoundFileError, OSError) as error:
            reason = f"no space left in {folder} for its results, or another limit there ({error})"
            raise SepkitError(f"{path}: {reason}; make room, or give another --out.") from error
    if song.n_samples not in (None, done):  # of an MP3 file
        notes.append(f"{done / rate:.2f} s of the {song.n_samples / rate:.2f} s that its header says")
    return notes + [f"{source}: {count} samples clipped at full scale" for source, count in over.items() if count]
