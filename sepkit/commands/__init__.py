"""One file a command, named as it.

`ARGUMENTS` has its arguments as argparse takes them, named as the parameters of the Python call of the same name.
`show`, if any, prints what that call returned; `run`, if any, replaces the call and may return the exit status.
"""

import os
import re
from pathlib import Path
from typing import Any


def names(text: str) -> list[str]:
    return [name for name in re.split(r"[\s,]+", text) if name]


def numbers(text: str) -> list[int]:
    return [int(name) for name in names(text)]


def folds(text: str) -> list[int | None]:
    return [None if name == "none" else int(name) for name in names(text)]


numbers.__name__ = folds.__name__ = "list of numbers"  # for argparse's messages

WHERE: dict[str, Any] = {
    "--profile": {"help": "demo, preview, full or full-32k (default: SEPKIT_PROFILE, else demo)"},
    "--root": {"help": "folder for caches, runs and results (default: SEPKIT_ROOT/<profile>)"},
}
DATA: dict[str, Any] = {"--data": {"help": "folder of songs with train/ and test/ (default: SEPKIT_DATA)"}}
DEVICE: dict[str, Any] = {"--device": {"help": "cpu or cuda (default: cuda where there is one)"}}
SEED: dict[str, Any] = {"--seed": {"type": int, "default": 0, "help": "seed of all that is random (default: 0)"}}
FOLD: dict[str, Any] = {"--fold": {"type": int, "help": "fold of the cross-validation by artist: 0, 1 or 2"}}
RUN = {**DATA, **SEED, **DEVICE, **FOLD}
JOBS: dict[str, Any] = {
    "--jobs": {"dest": "n_jobs", "metavar": "JOBS", "type": int, "help": "how many at a time (default: one a core)"}
}
CLUSTER: dict[str, Any] = {
    "--cluster": {"help": "address of a dask scheduler, as tcp://host:8786, whose workers do the work (SEPKIT_CLUSTER)"}
}
RANKS: dict[str, Any] = {
    "--devices": {"type": int, "default": 1, "help": "devices of this machine that train a run together (default: 1)"},
    "--num-nodes": {
        "type": int,
        "default": 1,
        "help": "machines that train a run together (default: 1); see docs/cluster.md",
    },
    "--strategy": {"default": "auto", "help": "Lightning's for several devices (default: auto, which is ddp_spawn)"},
}
CHANGES: dict[str, Any] = {
    "--set": {
        "action": "append",
        "dest": "changes",
        "metavar": "SETTING=VALUE",
        "help": "another setting, as training.batch_size=4, in runs with a name of their own; repeatable",
    },
    "--logger": {"help": "also log to logs/ under the root: tensorboard, or a logger of Lightning's as module:Class"},
}
LIMITS: dict[str, Any] = {
    "--hours": {"type": float, "help": "GPU hours of the week (default: SEPKIT_HOURS, else 8)"},
    "--session-hours": {"type": float, "help": "hours of this session (default: SEPKIT_SESSION_HOURS; Colab: 12)"},
}
PICK: dict[str, Any] = {
    "--pick": {"type": names, "help": "experiments, as F,C+D,A"},
    "--hours": {"type": float, "help": "GPU hours that they may take together"},
}


def whole_paths() -> dict[str, str]:
    """Those of SEPKIT_ROOT, SEPKIT_DATA and SEPKIT_DRIVE that are set, absolute: notebooks run in another folder."""
    given = {name: os.environ.get(f"SEPKIT_{name}") for name in ("ROOT", "DATA", "DRIVE")}
    return {f"SEPKIT_{name}": str(Path(path).expanduser().absolute()) for name, path in given.items() if path}


def print_table(table: Any) -> None:
    from tabulate import tabulate

    print(tabulate(table, headers="keys", showindex=False, floatfmt=".2f") if len(table) else "nothing yet")
