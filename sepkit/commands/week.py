"""`week`: the seven notebooks through papermill, a line a day; then the scoreboard.

An executed notebook is `<day>.running.ipynb` until all its cells have run, and `<day>.failed.ipynb` after a failure.
"""

import ast
import os
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import nbformat

import sepkit
from sepkit.commands import CLUSTER, DATA, PICK, SEED, numbers, whole_paths
from sepkit.errors import SepkitError, UsageError
from sepkit.experiments import BASE, MENU, picked
from sepkit.profiles import Profile, ProfileLike, get_profile
from sepkit.storage import DataLike, Root, RootLike

DAYS = (
    "day1_baseline", "day2_finetune", "day3_phase_augment", "day4_demucs_tiny", "day5_multitask_cv", "day6_evaluate",
    "day7_milestone",
)  # fmt: skip
PROJECT, KERNEL = Path(__file__).parents[2], "python3"
QUIET_END = "--IPKernelApp.log_level=50"  # nbclient interrupts each kernel at its end, and some log that as an error
ARGUMENTS = {**PICK, **DATA, "--days": {"type": numbers, "help": "some days only, as 1,6,7"}, **SEED, **CLUSTER}


def week(
    *,
    profile: ProfileLike = None,
    data: DataLike = None,
    root: RootLike = None,
    seed: int = 0,
    days: Iterable[int] | None = None,
    pick: Iterable[str] | None = None,
    hours: float | None = None,
    cluster: str | None = None,
    notebooks: Path | str | None = None,
) -> list[Path]:
    """Runs the notebooks (all, or `days`) headless and returns the executed files.

    pick: experiments that days 2 to 5 run; None as `sepkit.experiments.picked` says. hours: GPU hours of the week; a
    line names the experiments that `plan` predicts beyond them, which are left out. cluster: see `on_cluster`.
    Raises SepkitError with day, cell and reason where a notebook fails. The same call goes on with what is missing.
    """
    profile, root = get_profile(profile), Root.open(root, profile)
    folder = find_notebooks(notebooks)
    check_kernel()
    every = range(1, len(DAYS) + 1)
    chosen = sorted(set(every if days is None else days))
    if not chosen or not set(chosen) <= set(every):
        raise UsageError(f"Days are numbered 1 to {len(DAYS)}, got {chosen}.")
    parameters: dict[str, Any] = {"profile": profile.name, "root": str(root.path), "seed": seed}
    if data is not None:
        parameters["data"] = str(Path(data).expanduser().resolve())
    if (experiments := choose(profile, pick, hours, root)) is not None:
        parameters["pick"] = experiments
    paths = [folder / f"{DAYS[day - 1]}.ipynb" for day in chosen]
    for path in paths:  # all of them before the first is run
        check_parameters(path, parameters)
    executed = []
    for path in paths:
        start = time.perf_counter()
        executed.append(execute(path, root.path / "week", parameters, {"HOURS": hours, "CLUSTER": cluster}))
        print(f"{path.stem}: done in {time.perf_counter() - start:.0f} s, {executed[-1]}", flush=True)
    if len(board := sepkit.scoreboard(root, profile)):
        print(f"\n{board.attrs['plan']}\n")
        places = {"scoreboard": "scoreboard.html", "report": "report/milestone2.html", "executed notebooks": "week"}
        there = {name: root.path / place for name, place in places.items() if (root.path / place).exists()}
        print(*(f"{name}: {place}" for name, place in there.items()), sep="\n")
    return executed


def choose(
    profile: Profile, pick: Iterable[str] | None, hours: float | None, root: RootLike = None
) -> list[str] | None:
    """The experiments to run, Base first, within `hours`; prints those left out. None leaves the choice to the days."""
    if pick is None and hours is None:
        return None
    names = list(dict.fromkeys([BASE, *picked(pick, profile)]))
    if hours is None:
        return names
    wanted = None if pick is None and profile.as_planned else names  # the default week, as far as it fits
    within = sepkit.plan(profile=profile, pick=wanted, hours=hours, root=root).set_index("experiment")["within"]
    if not within.all():
        print(f"left out, beyond {hours:g} hours: {', '.join(within.index[~within])}")
    return [name for name in within.index[within] if name in MENU]  # folds are day 5's own decision


def find_notebooks(folder: Path | str | None = None) -> Path:
    """The folder of the notebooks: given, or beside the package, or under the current folder."""
    places = [Path(folder)] if folder else [PROJECT / "notebooks", Path("notebooks")]
    for place in places:
        if (place / f"{DAYS[0]}.ipynb").exists():
            return place
    raise SepkitError(f"No {DAYS[0]}.ipynb in {' or '.join(map(str, places))}; run this in the project's folder.")


def check_kernel(name: str = KERNEL) -> None:
    """SepkitError where no such kernel is installed."""
    from jupyter_client.kernelspec import find_kernel_specs

    if name not in find_kernel_specs():
        raise SepkitError(f"There is no Jupyter kernel {name!r} here; pip install ipykernel.")


def parameter_names(path: Path) -> list[str]:
    """Names assigned in the one cell tagged `parameters`; SepkitError where there is not exactly one."""
    cells = nbformat.read(path, as_version=4).cells
    tagged = [cell for cell in cells if "parameters" in cell.metadata.get("tags", [])]
    if len(tagged) != 1:
        raise SepkitError(f"{path.name} has {len(tagged)} cells tagged 'parameters', expected exactly one.")
    nodes = ast.walk(ast.parse(tagged[0].source))
    return [node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)]


def check_parameters(path: Path, parameters: Iterable[str]) -> None:
    """SepkitError where the notebook would ignore one of `parameters`."""
    known = parameter_names(path)
    if unknown := ", ".join(name for name in parameters if name not in known):
        text = f"{path.name} has no parameter {unknown}"
        raise SepkitError(f"{text}; its cell tagged 'parameters' has {', '.join(known)}.")


def execute(path: Path, folder: Path, parameters: dict[str, Any], settings: Mapping[str, Any] | None = None) -> Path:
    """Runs one notebook, under SEPKIT_<setting>, and returns the executed file; raises SepkitError with cell and reason."""
    import papermill
    import zmq
    from jupyter_client.manager import KernelManager
    from nbclient.exceptions import DeadKernelError
    from papermill.exceptions import PapermillExecutionError
    from traitlets.config import Config

    check_parameters(path, parameters)
    folder.mkdir(parents=True, exist_ok=True)
    done, running, failed = (folder / f"{path.stem}{end}.ipynb" for end in ("", ".running", ".failed"))
    for old in (done, running, failed):
        old.unlink(missing_ok=True)
    # the kernel imports this sepkit, and redraws any tqdm bar once a minute: the notebook stores each of its states
    imports = os.pathsep.join(filter(None, [str(PROJECT), os.environ.get("PYTHONPATH")]))
    before = dict(os.environ)
    os.environ.update(**whole_paths(), PYTHONPATH=imports, TQDM_MININTERVAL="60", TQDM_MAXINTERVAL="60")
    # newer kernels warn on the terminal where what they exchange with papermill is not encrypted
    encrypts = hasattr(KernelManager, "transport_encryption") and zmq.has("curve")
    config = Config(KernelManager={"transport_encryption": "auto"} if encrypts else {})
    os.environ |= {f"SEPKIT_{name}": str(value) for name, value in (settings or {}).items() if value is not None}
    try:
        papermill.execute_notebook(
            path, running, parameters, kernel_name=KERNEL, language="python", cwd=path.parent, progress_bar=False,
            config=config, extra_arguments=[QUIET_END],
        )  # fmt: skip
    except (PapermillExecutionError, RuntimeError) as error:
        where = _place(running.replace(failed)) if running.exists() else "its start"
        if isinstance(error, PapermillExecutionError):
            reason = f"{error.ename}: {error.evalue}"
        else:
            dead = isinstance(error, DeadKernelError)
            reason = "the kernel died (out of memory, or killed)" if dead else str(error)
            reason += f"; {_saved(Root(folder.parent))}, and the same call continues from there"
        raise SepkitError(f"{path.stem} stopped in {where}: {reason} (see {failed}).") from error
    finally:
        os.environ.clear()
        os.environ.update(before)
    return running.replace(done)


def _place(path: Path) -> str:
    """The code cell that started last, numbered from 1 as in the original notebook, without papermill's own cells."""
    own, place = {"injected-parameters", "papermill-error-cell-tag"}, "its start"
    cells = [cell for cell in nbformat.read(path, as_version=4).cells if not own & set(cell.metadata.get("tags", []))]
    for number, cell in enumerate(cells, 1):
        if cell.cell_type == "code" and cell.metadata.get("papermill", {}).get("status") != "pending":
            first = (cell.source.strip().splitlines() or [""])[0]
            place = f"cell {number} ({first.rstrip()})"
    return place


def _saved(root: Root) -> str:
    """The last saved epoch of each run in progress."""
    runs = [run for run in root.runs() if run.state in ("running", "stopped")]
    epochs = [f"{run.name} {len(run.history())}" for run in runs if (run.path / "history.csv").exists()]
    return f"saved epochs: {', '.join(epochs)}" if epochs else "finished runs and songs are kept"
