"""Small calls behind the command line: demo, cache, separate, compare."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd
import soundfile as sf

from sepkit.data.build import build_cache
from sepkit.data.cache import Cache, CacheSettings, cache_gigabytes
from sepkit.data.check import require_headers
from sepkit.data.demo import make_demo_songs
from sepkit.data.locate import locate_songs
from sepkit.devices import one_thread, pick_device
from sepkit.errors import SepkitError
from sepkit.evaluation.museval_json import read_museval
from sepkit.evaluation.statistics import Comparison, compare_scores
from sepkit.experiments import MENU
from sepkit.models.separation import separate as separate_song
from sepkit.profiles import Profile, get_profile
from sepkit.storage import Root, Run, run_name, writing
from sepkit.storage.checkpoints import load_model


def demo(folder: Path | str, *, seed: int = 0) -> Path:
    """Makes the procedural songs under `folder` (about half a minute, 0.7 GB) and returns it."""
    return make_demo_songs(folder, seed=seed)


def cache(
    *,
    profile: str | Profile | None = None,
    data: Path | str | None = None,
    root: Path | str | Root | None = None,
) -> Cache:
    """Builds the training cache of `profile`, saying its size first; returns it opened."""
    profile = get_profile(profile)
    root = Root.open(root, profile)
    folder = locate_songs(profile, data, root)
    require_headers(folder, "The cache")
    settings = CacheSettings(sample_rate=profile.sample_rate)
    built = build_cache(folder, root, settings, splits=("train", "valid"))
    hours = sum(built.n_samples(name) for name in built.songs) / built.sample_rate / 3600
    print(
        f"cache: {len(built.songs)} songs, {hours:.2f} hours, {cache_gigabytes(hours, settings):.2f} GB in {built.path}"
    )
    return built


def separate(
    files: Iterable[Path | str],
    *,
    run: Run | str = "Base-s0",
    root: Path | str | Root | None = None,
    profile: str | Profile | None = None,
    out: Path | str | None = None,
    device: str | None = None,
) -> list[Path]:
    """Separates WAV or FLAC files with the best weights of `run`; writes <name>.<source>.wav beside them.

    Each file keeps its rate and its length to the sample; a mono file gives stereo sources.  Written
    as 16-bit PCM; a sample beyond full scale is clipped, and that is said.
    """
    paths = [Path(file) for file in files]
    folders = [Path(out) if out else path.parent for path in paths]
    _check_files(paths, folders)  # all of them before any work
    model, device, written = load_model(_open(run, root, profile)), pick_device(device), []
    for path, folder in zip(paths, folders, strict=True):
        audio, sample_rate = sf.read(path, dtype="float32", always_2d=True)
        notes = []
        if audio.shape[1] == 1:
            notes.append("mono, taken as two equal channels")
        if sample_rate != model.sample_rate:
            notes.append(f"{sample_rate} Hz, resampled to the model's {model.sample_rate} Hz and back")
        try:
            with one_thread(device):
                estimates = separate_song(model, audio.T, sample_rate, device=device)
        except SepkitError as error:
            raise SepkitError(f"{path}: {error}") from error
        for source, samples in estimates.items():
            target = folder / f"{path.stem}.{source}.wav"
            over = int(np.count_nonzero(np.abs(samples) > 1))
            if over:
                notes.append(f"{source}: {over} samples clipped at full scale")
            with writing(target) as part:
                sf.write(part, np.clip(samples.T, -1, 1), sample_rate, subtype="PCM_16", format="WAV")
            written.append(target)
        print(
            f"{path.name}: {', '.join(estimates)} in {folder}" + (f" ({'; '.join(notes)})" if notes else "")
        )
    return written


def compare(
    run: Run | Path | str,
    base: Run | Path | str,
    *,
    metric: str = "sdr_bsseval",
    source: str = "vocals",
    root: Path | str | Root | None = None,
    profile: str | Profile | None = None,
) -> Comparison:
    """`run` against `base` over their test songs; see `compare_scores`.

    A row of the menu stands for all its scored seeds, a run, as Base-s1 or oracle, for itself, and a path
    for a folder of museval's JSON files.
    """
    sides = [_side(item, root, profile) for item in (run, base)]
    return compare_scores(*sides, metric=metric, source=source)


def _side(
    item: Run | Path | str, root: Path | str | Root | None, profile: str | Profile | None
) -> pd.DataFrame:
    if isinstance(item, str) and item in MENU:
        runs = [run for run in Root.open(root, profile).runs() if run.config.get("experiment") == item]
        scored = [run for run in runs if run.finished and run.scores_path.exists()]
        whole = [run.scores() for run in scored if run.config.get("fold") is None]
        if whole:
            return pd.concat(whole, ignore_index=True)
    elif not isinstance(item, Run) and Path(item).is_dir():
        return read_museval(item)
    return _open(item if isinstance(item, Run) else str(item), root, profile).scores()


def _open(run: Run | str, root: Path | str | Root | None, profile: str | Profile | None) -> Run:
    if isinstance(run, Run):
        return run
    return Root.open(root, profile).run(run_name(run, seed=0) if run in MENU else run)


def _check_files(paths: list[Path], folders: list[Path]) -> None:
    """SepkitError for a file that is absent or no audio, or whose results would replace another's."""
    taken: dict[Path, Path] = {}
    for path, folder in zip(paths, folders, strict=True):
        if not path.is_file():
            raise SepkitError(f"There is no file {path}; give WAV or FLAC files.")
        try:
            info = sf.info(path)
        except (sf.LibsndfileError, RuntimeError) as error:
            raise SepkitError(
                f"{path} is not audio that can be read here ({error}); convert it to WAV."
            ) from error
        if info.frames == 0 or info.channels > 2:
            raise SepkitError(
                f"{path} has {info.frames} samples in {info.channels} channels; expected sound in 1 or 2 channels."
            )
        other = taken.setdefault((folder / path.stem).resolve(), path)
        if other != path:
            raise SepkitError(
                f"{other} and {path} would both write {path.stem}.vocals.wav in {folder}; rename one."
            )
