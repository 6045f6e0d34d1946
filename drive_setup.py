"""Prepares a fresh runtime for the notebooks: Drive, packages, the project, its folders.

In a notebook: `drive_setup.setup()`; on a terminal: `python drive_setup.py`. It uses the standard
library only and keeps the packages that the runtime came with. Without a person in front of it, it
asks nothing. A second run changes nothing. Every error is one sentence (`SetupError`).

| variable | |
|---|---|
| SEPKIT_ROOT | set: local folder of runs and caches |
| SEPKIT_DRIVE | set: their copy on Drive |
| TORCH_HOME | set: downloaded weights |
| SEPKIT_REPOSITORY | read: where to clone the project from |
| SEPKIT_HEADLESS | read: 1 = never ask |
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.metadata
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = "https://github.com/sepkit/sepkit.git"
CONTENT = Path("/content")  # a Colab runtime's local disk
MOUNT_S, CLONE_S, PIP_S = 120, 300, 1800  # time limits
PROBE_S = 20  # a mount that does not answer within this counts as lost
# Packages that are compiled against one another or run the kernel: replacing one breaks the kernel
# until it is restarted.
PINNED = "torch torchaudio numpy scipy pandas numba matplotlib ipython ipykernel ipywidgets fsspec"
RESTART = "restart the runtime, then run all"
Where = str | Path | None


class SetupError(RuntimeError):
    """Setup can't continue; the message is one sentence with the next step."""


@dataclass(frozen=True)
class Setup:
    """What `setup` found and did."""

    project: Path  # the folder that holds sepkit/
    root: Path | None  # SEPKIT_ROOT; None: sepkit's own default
    drive: Path | None  # SEPKIT_DRIVE, the synced copy; None: no Drive
    torch_home: Path | None  # TORCH_HOME; None: torch's own default
    installed: tuple[str, ...]  # the requirements that pip installed
    notes: tuple[str, ...]  # warnings


def in_colab() -> bool:
    """True in a Colab runtime."""
    if "COLAB_RELEASE_TAG" in os.environ or "COLAB_GPU" in os.environ:
        return True
    with contextlib.suppress(ImportError, ValueError):  # no `google` at all; one without a spec
        return importlib.util.find_spec("google.colab") is not None
    return False


def person_present() -> bool:
    """True in a notebook kernel whose front end can answer a question.

    papermill, nbclient and nbval send each cell with `allow_stdin` false, JupyterLab and Colab with
    true; ipykernel stores it while the cell runs.
    """
    if os.environ.get("SEPKIT_HEADLESS", "0") not in ("", "0"):
        return False
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return bool(getattr(getattr(shell, "kernel", None), "_allow_stdin", False))


def free_bytes(folder: Path) -> int | None:
    """Free bytes of a folder; None where it can't be written to or does not answer."""
    answers: list[int] = []  # filled by a thread, since a lost mount may block for ever

    def look() -> None:
        with contextlib.suppress(OSError):
            tempfile.TemporaryFile(dir=folder).close()
            answers.append(shutil.disk_usage(folder).free)

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    thread.join(PROBE_S)
    return answers[0] if answers else None


def find_drive(given: Path | None, check: bool, notes: list[str]) -> Path | None:
    """The folder MyDrive, mounted now if a person can allow it; None without a Drive."""
    if given is not None and free_bytes(given) is None:
        raise SetupError(f"{given} is not a folder that can be written to: is Drive mounted?")
    if given is not None or not in_colab():
        return given
    mydrive, why = CONTENT / "drive" / "MyDrive", "is not mounted"
    if free_bytes(mydrive) is None and person_present() and not check:
        try:
            colab = importlib.import_module("google.colab.drive")
            colab.mount(str(CONTENT / "drive"), timeout_ms=MOUNT_S * 1000)
        except Exception as error:  # declined, timed out, no Drive: setup continues without it
            why = f"could not be mounted ({error!r})"
    if free_bytes(mydrive) is not None:
        return mydrive
    notes.append(f"Drive {why}: results are on this runtime's disk only and are lost when it ends")
    return None


def versions() -> dict[str, str]:
    """Versions of all installed packages, from their metadata; imports none."""
    importlib.invalidate_caches()
    found = list(importlib.metadata.distributions())[::-1]  # the first on the path wins
    return {re.sub(r"[-_.]+", "-", str(d.name)).lower(): d.version for d in found}


def release(version: str) -> tuple[int, ...]:
    """The leading numbers of a version.

    >>> release("2.11.0+cu128"), release("2.10rc1") > release("2.9.1")
    ((2, 11, 0), True)
    """
    match = re.match(r"\d+(\.\d+)*", version)
    return tuple(int(part) for part in match[0].split(".")) if match else ()


def missing_packages(requirements: Path, have: dict[str, str]) -> list[str]:
    """The requirements (lines `name>=version  # reason`) that are not met, in pip's form."""
    missing = []
    for wanted in re.sub(r"#.*| ", "", requirements.read_text(encoding="utf-8")).split():
        match = re.fullmatch(r"([\w-]+)(?:>=(\d+(?:\.\d+)*?)(?:\.0)*)?", wanted)
        if match is None:
            raise SetupError(f"{requirements} should hold lines name>=version, not {wanted}")
        name = match[1].lower().replace("_", "-")
        if name in have and release(have[name]) >= release(match[2] or ""):
            continue
        if name in have and name in PINNED.split():
            raise SetupError(
                f"sepkit needs {wanted}, and setup does not replace {have[name]} under a running "
                f'kernel: `pip install "{wanted}"`, then {RESTART}'
            )
        missing.append(wanted)
    return missing


def check_loaded(have: dict[str, str]) -> None:
    """Raises where a loaded module has another version than the one on disk."""
    for name in PINNED.split():
        module = {"ipython": "IPython"}.get(name, name)
        loaded = str(getattr(sys.modules.get(module), "__version__", ""))
        # torch's "2.11.0+cu130" is "2.11.0" in PyPI's metadata
        if loaded and name in have and loaded.split("+")[0] != have[name].split("+")[0]:
            raise SetupError(f"{name} {loaded} is loaded and {have[name]} is installed: {RESTART}")


def torch_note(have: dict[str, str]) -> str | None:
    """A sentence where the versions of torch and torchaudio don't fit; imports neither.

    Up to 2.8 each torchaudio fits one torch; from 2.9 it fits that torch and later ones. A torchaudio
    for CUDA fits only a torch for the same CUDA.
    """
    if "torch" not in have or "torchaudio" not in have:
        return None
    number, _, build = have["torch"].partition("+")
    audio_number, _, audio_build = have["torchaudio"].partition("+")
    ours, theirs = release(number)[:2], release(audio_number)[:2]
    if theirs > ours or (theirs < (2, 9) and theirs != ours):
        minor = ".".join(map(str, ours))
        pair = f'"torchaudio>=2.9,<={minor}.99"' if ours >= (2, 9) else f"torchaudio=={minor}.*"
    elif audio_build.startswith("cu") and build not in ("", audio_build):
        pair = f"torchaudio=={audio_number} --index-url https://download.pytorch.org/whl/{build}"
    else:
        return None
    misfit = f"torchaudio {have['torchaudio']} does not fit torch {have['torch']}, and its import fails"
    return f"{misfit}: `pip install {pair}`, then {RESTART}"


def pip_install(missing: list[str], before: dict[str, str]) -> None:
    """Installs the missing requirements; the pinned packages keep their versions."""
    pins = [f"{name}=={before[name]}" for name in PINNED.split() if name in before]
    with tempfile.TemporaryDirectory() as folder:
        constraints = Path(folder, "constraints.txt")
        constraints.write_text("\n".join(pins), encoding="utf-8")
        options = ["--quiet", "--no-input", "--disable-pip-version-check", "-c", str(constraints)]
        ok, out = _run([sys.executable, "-m", "pip", "install", *options, *missing], PIP_S)
    if not ok:
        beside = " beside this runtime's own versions" if "conflict" in " ".join(out) else ""
        raise SetupError(f"pip could not install {missing}{beside}: {' | '.join(out[-4:])}")
    after = versions()
    in_use = {*PINNED.split(), *(name.replace("_", "-") for name in sys.modules)}
    changed = [n for n in before if n in in_use and after.get(n) != before[n]]
    if changed:
        moves = ", ".join(f"{n} {before[n]} -> {after.get(n, 'none')}" for n in changed)
        raise SetupError(f"pip replaced packages in use ({moves}): {RESTART}")


def importable() -> Path | None:
    """The project folder that `import sepkit` would use; None where the import would fail."""
    if getattr(sys.modules.get("sepkit"), "__file__", "") is None:
        del sys.modules["sepkit"]  # a namespace package: the clone's own folder, found from beside it
    importlib.invalidate_caches()
    spec = importlib.util.find_spec("sepkit")
    return Path(spec.origin).resolve().parents[1] if spec is not None and spec.origin else None


def find_project(mydrive: Path | None, check: bool) -> Path:
    """The project's folder, cloned if it is not here, and put on `sys.path`."""
    if (found := importable()) is not None:
        return found
    home = (CONTENT if in_colab() else Path.cwd()) / "sepkit"
    notebook = Path(os.environ.get("JPY_SESSION_NAME", "notebook")).resolve()  # set by Jupyter
    places = [Path(__file__).resolve().parent] if "__file__" in globals() else []
    places += [Path.cwd(), *Path.cwd().parents, *notebook.parents, home, (mydrive or home) / "sepkit"]
    files = ("sepkit/__init__.py", "requirements.txt")
    folder = next((p for p in places if all((p / file).is_file() for file in files)), None)
    if folder is None:
        url = os.environ.get("SEPKIT_REPOSITORY") or REPOSITORY
        clone = ["git", "clone", "--quiet", "--depth=1", "--", url, str(home)]
        ok, out = (False, ["--check clones nothing"]) if check else _run(clone, CLONE_S)
        if not ok or not (home / files[0]).is_file():
            raise SetupError(
                f"sepkit is not here and was not cloned from {url} ({' '.join(out[-1:])}): put the "
                f"project at {home}, or at sepkit in a mounted Drive, and run this again"
            )
    sys.path.insert(0, str(folder or home))
    return folder or home


def setup(root: Where = None, drive: Where = None, install: bool = True, check: bool = False) -> Setup:
    """Prepares this runtime and prints in a few lines what it did.

    root: local folder of runs and caches (Colab: /content/sepkit-root); drive: a mounted Drive other
    than Colab's; install: False only names missing packages; check: change nothing on the disk, and
    raise where something is missing.
    """
    have, paths, notes = versions(), list(sys.path), list[str]()
    check_loaded(have)
    mydrive = find_drive(Path(drive).expanduser().resolve() if drive else None, check, notes)
    project = find_project(mydrive, check)
    done = [] if sys.path == paths else [f"sepkit from {project}"]
    listed = project / "requirements.txt"  # an installed sepkit has no such file, and has its packages
    missing = missing_packages(listed, have) if listed.is_file() else []
    if missing and check:
        raise SetupError(f"missing or too old: {', '.join(missing)}; run it without --check")
    if missing and install:
        print(f"drive_setup: installing {', '.join(missing)}", flush=True)
        pip_install(missing, have)
        done.append(f"installed {len(missing)} packages")
    elif missing:
        notes.append(f"missing or too old, and not installed: {', '.join(missing)}")
    notes += [note] if (note := torch_note(versions())) else []

    at = root or os.environ.get("SEPKIT_ROOT") or (CONTENT / "sepkit-root" if in_colab() else None)
    local = Path(at).expanduser().resolve() if at else None
    if local and not check:
        local.mkdir(parents=True, exist_ok=True)
    copy = mydrive / "sepkit-root" if mydrive else None
    weights = mydrive / "sepkit" / "torch" if mydrive else local / "torch" if local else None
    if os.environ.get("TORCH_HOME") not in (None, local and str(local / "torch")):
        weights = Path(os.environ["TORCH_HOME"])  # chosen by the person: kept
    where = {"SEPKIT_ROOT": local, "SEPKIT_DRIVE": copy, "TORCH_HOME": weights}
    variables = {name: str(folder) for name, folder in where.items() if folder}
    os.environ.update(variables)
    folders = [folder for folder in (local or project, mydrive) if folder and folder.is_dir()]
    parts = done or ["all in place, nothing to install or fetch"]
    parts += [f"{name}={folder}" for name, folder in variables.items()]
    parts += [f"{shutil.disk_usage(f).free / 2**30:.0f} GiB free in {f}" for f in folders]
    print("drive_setup: " + "\ndrive_setup: ".join(["; ".join(parts), *notes]))
    return Setup(project, local, copy, weights, tuple(missing if install else ()), tuple(notes))


def _run(command: list[str], timeout_s: float) -> tuple[bool, list[str]]:
    """(success, lines of output) of a command that can't ask questions and has a time limit."""
    env = {**os.environ, "GIT_TERMINAL_PROMPT": "0"}
    try:
        ran = subprocess.run(command, env=env, timeout=timeout_s, input=b"", capture_output=True)
    except (OSError, subprocess.TimeoutExpired) as error:
        return False, [str(error)]
    lines = (ran.stdout + ran.stderr).decode(errors="replace").splitlines()
    return ran.returncode == 0, [line.strip() for line in lines if line.strip()]


def main(argv: list[str] | None = None) -> int:
    """The command line. Exit status: 0 ready, 1 not ready (it says why), 2 wrong call."""
    parser = argparse.ArgumentParser(prog="drive_setup.py", description="Prepare for sepkit.")
    for name, text in (("root", "runs and caches, on a local disk"), ("drive", "a mounted Drive")):
        parser.add_argument(f"--{name}", metavar="DIR", help=text)
    parser.add_argument("--no-install", action="store_true", help="name missing packages only")
    parser.add_argument("--check", action="store_true", help="change nothing; 1 if not ready")
    given = parser.parse_args(argv)
    try:
        setup(given.root, given.drive, not given.no_install, given.check)
    except (SetupError, OSError) as error:
        print(f"drive_setup: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__" and "__file__" in globals():  # not where a notebook exec()s this text
    sys.exit(main())
