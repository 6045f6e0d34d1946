"""Train one experiment: songs -> cache -> network -> checkpoints.

A run is resumed where it stopped, and a finished one is returned as it is.  All randomness comes from (seed, epoch);
the caller's random state is put back.
"""

import contextlib
import io
import os
import threading
from collections.abc import Iterable
from dataclasses import asdict
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import torch
from joblib import delayed

from sepkit import models
from sepkit.data.cache import Cache, training_cache_settings
from sepkit.data.folds import split_songs
from sepkit.data.locate import given_songs
from sepkit.data.opening import open_cache, other_songs
from sepkit.devices import device_name, pick_device
from sepkit.errors import OutOfTime, SepkitError, UsageError
from sepkit.experiments import MENU, about, get_experiment
from sepkit.experiments.settings import Experiment, resolve, with_weights
from sepkit.models import own
from sepkit.models.files import network_of
from sepkit.models.weights import differences
from sepkit.parallel import on_cluster, progress, spread
from sepkit.profiles import Profile, ProfileLike, get_profile
from sepkit.storage import DataLike, Root, RootLike, Run, drive, hours_left, write_json
from sepkit.storage.checkpoints import kept, load_model, take_weights, tell_of_code
from sepkit.storage.ledger import out_of_time, session_started, workers_book
from sepkit.storage.repair import has_best, mend, start_again
from sepkit.training.asked import Changes, checked, flat, make_logger, with_changes
from sepkit.training.losses import ON_MAGNITUDES
from sepkit.training.nodes import Shared, node_rank, require_shared, trained_by_node_0

ONE_AT_A_TIME = threading.Lock()  # a cluster's worker may have several threads; torch has one random state


def train(
    experiment: str | Experiment,
    *,
    profile: ProfileLike = None,
    data: DataLike = None,
    root: RootLike = None,
    seed: int = 0,
    fold: int | None = None,
    device: str | None = None,
    hours: float | None = None,
    session_hours: float | None = None,
    weights: Path | str | None = None,
    devices: int = 1,
    num_nodes: int = 1,
    strategy: str = "auto",
    changes: Changes = None,
    logger: str | None = None,
) -> Run:
    """Trains `experiment`, or resumes it, and returns its run.

    profile: demo, preview or full (SEPKIT_PROFILE, else demo); data: the folder of songs; root: where everything is
    written; seed: of weights, clips and dropout; fold: 0, 1 or 2 of the cross-validation by artist, None for the usual
    split; device: cpu or cuda, None for the best; hours: GPU hours of the week (SEPKIT_HOURS, else 8); session_hours:
    how long this session lasts (SEPKIT_SESSION_HOURS, else 12 in Colab); weights: see `with_weights`; devices: how many
    share every batch; num_nodes: on how many machines each (docs/cluster.md); strategy: Lightning's, one of
    `nodes.STRATEGIES`; changes: other settings, see `with_changes`; logger: see `make_logger`.

    Raises OutOfTime where another epoch would pass the hours or the session: all is saved, and the same call goes on.
    Raises SepkitError, in one sentence, where songs, settings or checkpoints do not allow it.
    """
    profile = get_profile(profile)
    experiment = with_changes(with_weights(get_experiment(experiment), weights), changes, profile)
    settings, shared = resolve(experiment, profile), Shared(devices, num_nodes, strategy)
    require_shared(settings, shared, device)
    device, root = pick_device(device), Root.open(root, profile)
    run = root.run_of(experiment.name, seed, fold)
    if num_nodes > 1 and node_rank():
        return trained_by_node_0(run, device, shared)
    drive.tell(run.name, drive.pull(root, only=kept(run)))  # goes on from the copy that is further along
    if _is_done(run, settings, profile, data):
        return run
    extra, log = told_of(experiment, settings), make_logger(logger, run)
    limits = {"hours": hours, "session_hours": session_hours}
    where = {"data": data, "root": root, "seed": seed, "fold": fold, "device": device, **limits, **asdict(shared)}
    _require_time(run, 0 if settings["weights_of"] else settings["training"]["epochs"], **limits)
    start = starting_weights(settings, profile, **where)
    cache = training_cache(settings, profile, data, root)
    names = {"cache": cache.path.name, "layout": cache.layout, "origin": cache.origin, **split_songs(cache, fold)}
    config = {"run": run.name, **settings, "seed": seed, "fold": fold, "data": names, **extra}
    with run.alone():
        if _begun(run, config):  # and finished by another process, meanwhile
            return run
        if settings["weights_of"]:
            take_weights(run, train(settings["weights_of"], profile=profile, **where))
        else:
            from sepkit.training.fit import fit  # with Lightning, which takes seconds to import

            fit(run, config, cache, device, start, limits, shared, log)
    drive.tell(run.name, drive.push(root, only=(*kept(run), "exclude.txt", "cache")))
    return run


def told_of(experiment: Experiment, settings: dict[str, Any]) -> dict[str, Any]:
    """What config.json keeps of an experiment that is not on the menu; UsageError where its network does not fit."""
    network = checked(settings, bool(experiment.changes))
    if experiment.name in MENU:
        return {}
    return {"about": about(experiment, network), "code": own.code(settings["model"]["name"])}


def _begun(run: Run, config: dict[str, Any]) -> bool:
    """Whether the run is finished with its best weights; its config.json is written, or has the same settings."""
    if (run.path / "config.json").exists():
        _same_settings(run, config)
    else:
        write_json(run.path / "config.json", config)
    done = run.finished and has_best(run)
    if run.finished and not done:
        start_again(run)
    return done


def _tell_other_songs(run: Run, profile: Profile, data: DataLike) -> None:
    """Prints where a finished run was trained on other songs than there are now."""
    with contextlib.suppress(SepkitError):  # it needs no songs
        config = run.config
        if differing := other_songs(config["data"], profile, data, run.root, training_cache_settings(config)):
            print(
                f"{run.name} was trained on other songs than are here now ({differing}); give another --root for these"
            )


def _is_done(run: Run, settings: dict[str, Any], profile: Profile, data: DataLike) -> bool:
    """Whether it is trained and its weights are there; SepkitError where its settings were others; damage is mended."""
    mend(run)
    if not run.finished or not (run.path / "config.json").exists():
        return False
    _same_settings(run, settings)
    if done := has_best(run):
        _tell_other_songs(run, profile, data)
    return done


def _require_time(run: Run, epochs: int, **limits: float | None) -> None:
    """Raises OutOfTime where none of `epochs` fits; without a GPU, where none is counted, prints what is spent above the week's."""
    if not epochs:
        return
    if reason := no_time_for(run, epochs, **limits):
        raise OutOfTime(f"{run.name} does not go on: {reason}.")
    if (left := hours_left(run.root, hours=limits["hours"])) <= 0:
        print(f"{run.name}: {-left:.2f} GPU hours more than the week's are spent; without a GPU this run costs none")


def no_time_for(run: Run, epochs: int, **limits: float | None) -> str | None:
    """Why no epoch of `run` fits into the week's hours and the session (see `out_of_time`); None where one does."""
    past = list(run.history()["seconds"]) if (run.path / "history.csv").exists() else []
    if run.finished or len(past) >= epochs:
        return None
    here = run.status.get("device") == device_name(pick_device(None))
    return out_of_time(run.root, past[-1] if past and here else 0.0, 1, **limits)


def starting_weights(settings: dict[str, Any], profile: Profile, **where: Any) -> dict[str, torch.Tensor] | None:
    """The weights that a run starts from: its network's published ones, or another experiment's, trained first.

    Raises UsageError where the other experiment has another network.
    """
    start, network = settings["start_from"], settings["model"]
    if start is None:
        return None
    if Path(start).is_absolute():
        return network_of(start)[0].state_dict()
    if start == network["name"]:
        with torch.random.fork_rng(devices=[]):
            model = models.build(**network)
        model.load_pretrained()
        return model.state_dict()
    other = resolve(get_experiment(start), profile)["model"]
    with torch.device("meta"):
        found = differences(models.build(**network), models.build(**other).state_dict())
    if found:
        raise UsageError(
            f"{settings['experiment']} can't start from {start}: its {network['name']} and {start}'s {other['name']} differ ({found[0].replace('the file', start)}); start from an experiment with the same network."
        )
    return load_model(train(start, profile=profile, **where)).state_dict()


def training_cache(settings: dict[str, Any], profile: Profile, data: DataLike, root: Root) -> Cache:
    """Of the training and validation songs that `settings` need."""
    wanted, loss = training_cache_settings(settings), settings["loss"]["name"]
    if wanted.kind == "stft" and loss not in ON_MAGNITUDES:
        raise UsageError(f"The loss {loss} needs waveforms, which a stft cache does not hold; use cache_kind wave.")
    return open_cache(profile, data, root, wanted, ("train", "valid"), "Training")


def train_many(
    experiments: Iterable[str | Experiment],
    *,
    seeds: Iterable[int] = (0,),
    folds: Iterable[int | None] = (None,),
    n_jobs: int | None = None,
    cluster: str | None = None,
    **where: Any,
) -> list[Run]:
    """Trains experiments × seeds × folds and returns their runs in that order; resumable at any point.

    n_jobs: runs at a time; None is one a core without a GPU, one with it or on several devices.  cluster: its workers
    train, see `on_cluster`.  `where` as for `train`.
    """
    experiments, seeds, folds = list(experiments), list(seeds), list(folds)
    todo, profile = list(product(experiments, seeds, folds)), get_profile(where.get("profile"))
    shared = Shared(**{key: where[key] for key in ("devices", "num_nodes", "strategy") if key in where})
    for experiment in map(get_experiment, experiments):
        settings = resolve(experiment, profile)
        require_shared(settings, shared, where.get("device"))
        told_of(experiment, settings)
        make_logger(where.get("logger"), Root.at(where.get("root"), profile).run_of(experiment.name))
    # all found here: a cluster's workers have no SEPKIT_PROFILE, SEPKIT_ROOT and SEPKIT_DATA
    where |= {"profile": profile, "root": Root.open(where.get("root"), profile), "data": given_songs(where.get("data"))}
    with on_cluster(cluster, where["root"].path, where["data"]) as away, contextlib.ExitStack() as within:
        if away and shared.ranks > 1:
            raise UsageError("A cluster's worker trains on one device; give either a cluster or several devices.")
        if away:
            jobs = -1
        else:
            jobs = n_jobs or (1 if pick_device(where.get("device")) == "cuda" else os.cpu_count() or 1)
            jobs = min(jobs, max(1, len(todo))) if shared.ranks == 1 else 1
        if jobs != 1:
            _prepare(experiments, seeds=seeds, folds=folds, n_jobs=n_jobs, cluster=cluster, **where)
            within.enter_context(workers_book())
        work = delayed(train) if jobs == 1 else delayed(partial(_train_quietly, session_started()))
        runs = spread((work(experiment, seed=s, fold=f, **where) for experiment, s, f in todo), n_jobs=jobs)
        ended = "{0.name} {0.status[stopped]}, {0.status[minutes]:.1f} min".format
        return list(progress(runs, doing="train", total=len(todo), name=ended, each=jobs != 1))


def _prepare(experiments: list[str | Experiment], **where: Any) -> None:
    """Makes what runs side by side share: their caches, and the weights that they start from."""
    profile, starts = get_profile(where.get("profile")), []
    for settings in (resolve(get_experiment(experiment), profile) for experiment in experiments):
        training_cache(settings, profile, where.get("data"), Root.open(where.get("root"), profile))
        starts.append(settings["start_from"] or settings["weights_of"])
        if starts[-1] == settings["model"]["name"]:  # published ones
            starting_weights(settings, profile)
    own = {start for start in starts if start and ":" in start and not Path(start).is_absolute()}
    if before := [start for start in dict.fromkeys(starts) if start in MENU or start in own]:
        train_many(before, **where)


def _train_quietly(started: float, experiment: str | Experiment, **where: Any) -> Run:
    """`train` in a worker of a session that started then; without its lines, which would come out of order."""
    with ONE_AT_A_TIME, contextlib.redirect_stdout(io.StringIO()):
        os.environ["SEPKIT_STARTED"] = str(started)
        return train(experiment, **where)


def _same_settings(run: Run, wanted: dict[str, Any]) -> None:
    """SepkitError where a run of this name was made with other settings; a line where a file of its own network changed."""
    tell_of_code(run)
    have, want = flat(run.config), flat(wanted)
    settings = (key for key in have if key.startswith(("model.", "loss.", "training.")))
    different = [key for key in dict.fromkeys([*want, *settings]) if have.get(key) != want.get(key)]
    # a folder may be renamed, its songs are compared; and words about an experiment are no settings
    different = [key for key in different if key != "data.origin" and not key.startswith(("about.", "code."))]
    if different:
        key = different[0]
        raise SepkitError(
            f"{run.name} under {run.root.path} was made with {key} = {have.get(key)!r}, but {want.get(key)!r} is asked for now ({len(different)} differences); give another --root, or delete {run.path}."
        )
