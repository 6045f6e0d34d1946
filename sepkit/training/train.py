"""Train one row of the menu: songs -> cache -> network -> checkpoints.

A run is resumed where it was and a finished one is returned as it is.  All randomness comes from
(seed, epoch); the caller's random state is put back.
"""

import contextlib
import fcntl
import io
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from joblib import delayed

from sepkit import models
from sepkit.data.build import build_cache
from sepkit.data.cache import Cache, CacheSettings, training_sources
from sepkit.data.check import require_headers
from sepkit.data.folds import split_songs
from sepkit.data.locate import locate_songs
from sepkit.devices import pick_device
from sepkit.errors import SepkitError, UsageError
from sepkit.experiments import MENU, get_experiment
from sepkit.experiments.settings import Experiment, resolve
from sepkit.models.weights import differences
from sepkit.parallel import progress, spread
from sepkit.profiles import Profile, get_profile
from sepkit.storage import Root, Run, drive, write_json
from sepkit.storage.checkpoints import kept, load_model, take_weights

# losses that a cache of magnitudes is enough for
ON_MAGNITUDES = ("magnitude_l1", "magnitude_mse")


def train(
    experiment: str | Experiment,
    *,
    profile: str | Profile | None = None,
    data: Path | str | None = None,
    root: Path | str | Root | None = None,
    seed: int = 0,
    fold: int | None = None,
    device: str | None = None,
) -> Run:
    """Trains `experiment`, or goes on with it, and returns its run.

    profile: demo, preview or full (SEPKIT_PROFILE, else demo); data: the folder of songs; root:
    where everything is written; seed: of weights, clips and dropout; fold: 0, 1 or 2 of the
    cross-validation by artist, None for the usual split; device: cpu or cuda, None for the best.

    Raises SepkitError, in one sentence, where songs, settings or checkpoints do not allow the work.
    """
    experiment, profile = get_experiment(experiment), get_profile(profile)
    device = pick_device(device)
    root = Root.open(root, profile)
    settings = resolve(experiment, profile)
    run = root.run_of(experiment.name, seed, fold)
    drive.pull(root, only=kept(run))  # a fresh machine goes on from the copy on Drive
    if run.finished:
        _same_settings(run, settings)
        return run
    start = starting_weights(settings, profile, data=data, root=root, seed=seed, fold=fold, device=device)
    cache, layout = training_cache(settings, profile, data, root)
    names = split_songs(cache, fold)
    config = {
        "run": run.name,
        **settings,
        "seed": seed,
        "fold": fold,
        "data": {"cache": cache.fingerprint, "layout": layout, **names},
    }
    if (run.path / "config.json").exists():
        _same_settings(run, config)
    else:
        write_json(run.path / "config.json", config)
    with alone(run):
        if run.finished:  # by another process, meanwhile
            return run
        if settings["weights_of"]:
            other = train(
                settings["weights_of"],
                profile=profile,
                data=data,
                root=root,
                seed=seed,
                fold=fold,
                device=device,
            )
            take_weights(run, other)
        else:
            from sepkit.training.fit import fit  # with Lightning, which takes seconds to import

            fit(run, config, cache, device, start)
    return run


@contextlib.contextmanager
def alone(run: Run) -> Iterator[None]:
    """Waits, saying so, while another process trains `run`; a lock on its config.json, gone with its holder."""
    with (run.path / "config.json").open("r+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"{run.name} is being trained by another process; waiting for it", flush=True)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def starting_weights(
    settings: dict[str, Any], profile: Profile, **where: Any
) -> dict[str, torch.Tensor] | None:
    """The weights that a run starts from: its network's published ones, or another experiment's, trained first.

    Raises UsageError where the other experiment's network is another one.
    """
    start = settings["start_from"]
    if start is None:
        return None
    if start == settings["model"]["name"]:
        with torch.random.fork_rng(devices=[]):
            network = models.build(**settings["model"])
        network.load_pretrained()
        return network.state_dict()
    other = resolve(get_experiment(start), profile)["model"]
    with torch.device("meta"):
        found = differences(models.build(**settings["model"]), models.build(**other).state_dict())
    if found:
        raise UsageError(
            f"{settings['experiment']} can't start from {start}: its {settings['model']['name']} and {start}'s "
            f"{other['name']} differ ({found[0].replace('the file', start)}); start from an experiment with the same network."
        )
    return load_model(train(start, profile=profile, **where)).state_dict()


def training_cache(
    settings: dict[str, Any], profile: Profile, data: Path | str | None, root: Root
) -> tuple[Cache, str]:
    """(cache of the training and validation songs that `settings` need, layout of the songs)."""
    folder = locate_songs(profile, data, root)
    require_headers(folder, "Training")
    kind, loss = settings["training"]["cache_kind"], settings["loss"]["name"]
    if kind == "stft" and loss not in ON_MAGNITUDES:
        raise UsageError(
            f"The loss {loss} needs waveforms, which a stft cache does not hold; use cache_kind wave."
        )
    wanted = CacheSettings(
        kind=kind, sample_rate=settings["model"]["sample_rate"], sources=training_sources(settings)
    )
    return build_cache(folder, root, wanted, splits=("train", "valid")), folder.layout


def train_many(
    experiments: Iterable[str | Experiment],
    *,
    seeds: Iterable[int] = (0,),
    folds: Iterable[int | None] = (None,),
    n_jobs: int | None = None,
    **where: Any,
) -> list[Run]:
    """Trains rows × seeds × folds and returns their runs in that order; resumable at any point.

    n_jobs: runs at a time, None for one a core without a GPU and one with it; `where` as for `train`.
    """
    rows, seeds, folds = list(experiments), list(seeds), list(folds)
    todo = [(row, seed, fold) for row in rows for seed in seeds for fold in folds]
    jobs = n_jobs or (1 if pick_device(where.get("device")) == "cuda" else os.cpu_count() or 1)
    jobs = min(jobs, max(1, len(todo)))
    if jobs > 1:  # runs side by side find their caches built, and the runs that they start from
        profile = get_profile(where.get("profile"))
        settings = [resolve(get_experiment(row), profile) for row in rows]
        caches = {
            (s["training"]["cache_kind"], s["model"]["sample_rate"], training_sources(s)): s for s in settings
        }
        for one in caches.values():
            training_cache(one, profile, where.get("data"), Root.open(where.get("root"), profile))
        for one in settings:
            if one["start_from"] == one["model"]["name"]:  # fetched once
                starting_weights(one, profile)
        starts = dict.fromkeys(s["start_from"] or s["weights_of"] for s in settings)
        before = [name for name in starts if name in MENU]
        if before:
            train_many(before, seeds=seeds, folds=folds, n_jobs=n_jobs, **where)
    work = delayed(train if jobs == 1 else _train_quietly)
    runs = spread((work(row, seed=seed, fold=fold, **where) for row, seed, fold in todo), n_jobs=jobs)
    name = lambda run: f"{run.name} {run.status['stopped']}, {run.status['minutes']:.1f} min"  # noqa: E731
    return list(progress(runs, doing="train", total=len(todo), name=name))


def _train_quietly(row: str | Experiment, **where: Any) -> Run:
    """`train` in a worker, whose lines would come out of order, past the notebook that asked for them."""
    with contextlib.redirect_stdout(io.StringIO()):
        return train(row, **where)


def _same_settings(run: Run, wanted: dict[str, Any]) -> None:
    """SepkitError where a run under this name was made with other settings."""
    have = run.config
    flat_have, flat_wanted = _flatten(have), _flatten(wanted)
    settings = (key for key in flat_have if key.startswith(("model.", "loss.", "training.")))
    different = [
        key for key in dict.fromkeys([*flat_wanted, *settings]) if flat_have.get(key) != flat_wanted.get(key)
    ]
    if different:
        key = different[0]
        raise SepkitError(
            f"{run.name} under {run.root.path} was made with {key} = {flat_have.get(key)!r}, but {flat_wanted.get(key)!r} is "
            f"asked for now ({len(different)} differences); give another --root, or delete {run.path}."
        )


def _flatten(value: Any, prefix: str = "") -> dict[str, Any]:
    if isinstance(value, dict):
        return {
            key: leaf
            for name, child in value.items()
            for key, leaf in _flatten(child, f"{prefix}{name}.").items()
        }
    return {prefix.rstrip("."): list(value) if isinstance(value, tuple) else value}
