"""Prepares a fresh runtime for the notebooks: Drive, packages, the project, its folders.

In a notebook: `drive_setup.setup()`; on a terminal: `python drive_setup.py`. It uses the standard library only, keeps
the packages that the runtime came with, asks nothing where nobody can answer, and waits for no Drive for long. A second
run changes only what has become possible since. Every error is one sentence (`SetupError`).

| variable | |
|---|---|
| SEPKIT_ROOT, SEPKIT_DRIVE | set where they are not: local folder of roots, one a profile; its copy on Drive |
| SEPKIT_MOUNT | set: Colab's mount point, where SEPKIT_DRIVE lies below it |
| SEPKIT_DATA | made a whole path, as the two above |
| PYTHONPYCACHEPREFIX | set where the project lies on Drive: compiled modules stay on the local disk |
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
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CONTENT = Path("/content")  # a Colab runtime's local disk
MOUNT_S, PIP_S = 120, 1800  # time limits
PROBE_S = 20  # a mount that does not answer within this counts as lost
# compiled against one another, or running the kernel: replacing one breaks the kernel until it is restarted
PINNED = "torch torchaudio numpy scipy pandas numba matplotlib ipython ipykernel ipywidgets fsspec"
RESTART = "restart the runtime, then run all"
Where = str | Path | None


class SetupError(RuntimeError):
    """Setup can't continue; the message is one sentence with the next step."""


@dataclass(frozen=True)
class Setup:
    """What `setup` found and did."""

    project: Path  # the folder that holds sepkit/
    root: Path | None  # SEPKIT_ROOT, the folder of roots; None: sepkit's own default
    drive: Path | None  # SEPKIT_DRIVE, the synced copy; None: no Drive
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

    papermill, nbclient and nbval send each cell with `allow_stdin` false; ipykernel stores it while the cell runs.
    """
    if os.environ.get("SEPKIT_HEADLESS", "0") not in ("", "0"):
        return False
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return bool(getattr(getattr(shell, "kernel", None), "_allow_stdin", False))


def within(seconds: float, call: Callable[[], Any], name: str | None = None) -> Any:
    """The result of `call`, in a thread called `name`; TimeoutError where it takes longer, as a lost mount may."""
    answer: Future[Any] = Future()

    def run() -> None:
        try:
            answer.set_result(call())
        except Exception as error:
            answer.set_exception(error)

    threading.Thread(target=run, daemon=True, name=name).start()
    return answer.result(seconds)


def drive_fault(mydrive: Path, mount: Path | None = None) -> tuple[str, bool]:
    """(why a Drive can't be written to, or ""; whether it can be read). mount: what must be a mount point."""

    def look() -> tuple[str, bool]:
        if mount is not None:
            mount.lstat()  # errno 107 where the mount is lost
            if not os.path.ismount(mount):
                local = f", and {mount} holds local files: move them away" if any(mount.iterdir()) else ""
                return f"is not mounted{local}", False
        mydrive.stat()
        try:
            tempfile.TemporaryFile(dir=mydrive).close()
        except OSError as error:
            return f"can't be written to ({error.strerror}): new results are on this runtime's disk only", True
        return "", True

    try:
        return within(PROBE_S, look)
    except OSError as error:  # a TimeoutError is one
        lost = f"does not answer ({error.strerror or 'it hangs'})"
        return "is not mounted" if isinstance(error, FileNotFoundError) else lost, False


def find_drive(given: Path | None, check: bool, notes: list[str]) -> Path | None:
    """The folder MyDrive, mounted now if a person can allow it; None without a Drive."""
    if given is not None and drive_fault(given)[0]:
        raise SetupError(f"{given} is not a folder that can be written to: is Drive mounted?")
    if given is not None or not in_colab():
        return given
    mount, mydrive = CONTENT / "drive", CONTENT / "drive" / "MyDrive"
    why, readable = drive_fault(mydrive, mount)
    if not readable and person_present() and not check and "local files" not in why:  # Colab asks, then refuses
        try:
            if any(thread.name == "mount" for thread in threading.enumerate()):
                raise TimeoutError("an earlier call has not come back")
            colab = importlib.import_module("google.colab.drive")
            within(2.5 * MOUNT_S, lambda: colab.mount(str(mount), timeout_ms=MOUNT_S * 1000), "mount")
            why, readable = drive_fault(mydrive, mount)
        except Exception as error:  # declined, timed out, no Drive: setup continues without it
            first = re.split(r"\n|<|(?<=[.!?])\s", str(error))[0].strip(" .")  # pexpect's TIMEOUT is a page, in <>
            why += f" ({type(error).__name__}{first and ': '}{first})"
    if not readable:
        why += ": results are on this runtime's disk only and are lost when it ends; run this cell again to mount it"
    notes += [f"Drive {why}"] if why else []
    return mydrive if readable else None


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
    """SetupError where a loaded module has another version than the one on disk."""
    for name in PINNED.split():
        module = {"ipython": "IPython"}.get(name, name)
        loaded = str(getattr(sys.modules.get(module), "__version__", ""))
        # torch's "2.11.0+cu130" is "2.11.0" in PyPI's metadata
        if loaded and name in have and loaded.split("+")[0] != have[name].split("+")[0]:
            raise SetupError(f"{name} {loaded} is loaded and {have[name]} is installed: {RESTART}")


def torch_note(have: dict[str, str]) -> str | None:
    """A sentence where the versions of torch and torchaudio don't fit; imports neither.

    Up to 2.8 each torchaudio fits one torch, from 2.9 that torch and later ones; one for CUDA only the same CUDA.
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


def find_project(mydrive: Path | None) -> Path:
    """The project's folder, put on `sys.path`."""

    def has(folder: Path, *files: str) -> bool:
        return all(os.path.exists(folder / file) for file in files)  # noqa: PTH110  False on a lost Drive

    home = (CONTENT if in_colab() else Path.cwd()) / "sepkit"
    notebook = Path(os.environ.get("JPY_SESSION_NAME", "notebook")).resolve()  # set by Jupyter
    places = [Path(__file__).resolve().parent] if "__file__" in globals() else []
    places += [Path.cwd(), *Path.cwd().parents, *notebook.parents, home, (mydrive or home) / "sepkit"]
    found = importable()
    folder = found or next((p for p in places if has(p, "sepkit/__init__.py", "requirements.txt")), None)
    torn = folder or next((p for p in places if has(p, "drive_setup.py")), None)
    if torn and (folder is None or has(torn, ".git/HEAD") > has(torn, ".git/index")):  # git writes the index last
        raise SetupError(f"{torn} lacks files, since its copy or clone broke off: delete it, and copy it again")
    if folder is None:
        raise SetupError(f"sepkit is not here: copy it to {home}, or to sepkit in a mounted Drive, and run this again")
    sys.path[:0] = [] if found else [str(folder)]
    return folder


def packages(project: Path, have: dict[str, str], install: bool, check: bool, notes: list[str]) -> tuple[str, ...]:
    """The requirements that pip installed; notes say what is left missing and what does not fit."""
    listed = project / "requirements.txt"  # an installed sepkit has no such file, and has its packages
    missing = missing_packages(listed, have) if listed.is_file() else []
    if missing and check:
        raise SetupError(f"missing or too old: {', '.join(missing)}; run it without --check")
    if missing and install:
        print(f"drive_setup: installing {', '.join(missing)}", flush=True)
        pip_install(missing, have)
    elif missing:
        notes.append(f"missing or too old, and not installed: {', '.join(missing)}")
    notes += [note] if (note := torch_note(versions())) else []
    return tuple(missing if install else ())


def whole(path: str) -> Path:
    """A path of the environment, absolute. A relative one lies here, or else where the shell that set it is."""
    given, shell = Path(path).expanduser(), os.environ.get("PWD") or Path.cwd()
    return given.absolute() if given.exists() else Path(shell, given)


def setup(root: Where = None, drive: Where = None, install: bool = True, check: bool = False) -> Setup:
    """Prepares this runtime and prints in a few lines what it did.

    root: local folder of roots, one a profile (Colab: /content/sepkit-root); drive: a mounted Drive other than Colab's;
    install: False only names missing packages; check: change nothing on the disk, and raise where something is missing.
    """
    have, paths, notes, mount = versions(), list(sys.path), list[str](), CONTENT / "drive"
    check_loaded(have)
    names = ("SEPKIT_ROOT", "SEPKIT_DATA", "SEPKIT_DRIVE")
    places = {name: whole(os.environ[name]) for name in names if os.environ.get(name)}
    copy, mydrive = None if drive else places.get("SEPKIT_DRIVE"), None
    if copy is None or mount in copy.parents:  # else the copy is a person's own
        mydrive = find_drive(Path(drive).expanduser().resolve() if drive else None, check, notes)
        copy = copy or (mydrive / "sepkit-root" if mydrive else None)
    project = find_project(mydrive)
    if mydrive in project.parents:
        sys.pycache_prefix = sys.pycache_prefix or str(Path(tempfile.gettempdir(), "sepkit-pycache"))
        places["PYTHONPYCACHEPREFIX"] = Path(sys.pycache_prefix)
    installed = packages(project, have, install, check, notes)
    at = root or places.get("SEPKIT_ROOT") or (CONTENT / "sepkit-root" if in_colab() else None)
    local = Path(at).expanduser().resolve() if at else None
    if local and mount in local.parents and not drive_fault(mount / "MyDrive", mount)[1]:  # it would be made here
        raise SetupError(f"the root {local} lies on Drive, which is not mounted: mount it, or give a local root")
    if local and not check:
        try:
            local.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise SetupError(f"the folder {local} can't be made ({error.strerror}): give another root") from error
    below = mount if copy and mount in copy.parents else None
    where = {"SEPKIT_ROOT": local, "SEPKIT_DRIVE": copy, "SEPKIT_MOUNT": below}
    places |= {name: folder for name, folder in where.items() if folder}
    os.environ.update({name: str(folder) for name, folder in places.items()})
    if mount in Path(os.environ.get("TORCH_HOME", "")).parents:
        del os.environ["TORCH_HOME"]  # below a lost mount, torch would make a local MyDrive
    done = [f"sepkit from {project}"] if sys.path != paths else []
    done += [f"installed {len(installed)} packages"] if installed else []
    parts = [*(done or ["all in place, nothing to install or fetch"]), *(f"{n}={f}" for n, f in places.items())]
    folders = [folder for folder in (local or project, mydrive) if folder]
    with contextlib.suppress(OSError):
        if mydrive and copy and within(PROBE_S, (copy / "runs").is_dir):  # as a root itself has
            notes.append(f"{copy} holds runs of its own: move its content to {copy}/<profile>, where they are found")
        free = within(PROBE_S, lambda: [shutil.disk_usage(folder).free / 2**30 for folder in folders])
        parts += [f"{size:.0f} GiB free in {folder}" for size, folder in zip(free, folders, strict=True)]
    print("drive_setup: " + "\ndrive_setup: ".join(["; ".join(parts), *notes]))
    return Setup(project, local, copy, installed, tuple(notes))


def _run(command: list[str], timeout_s: float) -> tuple[bool, list[str]]:
    """(success, lines of output) of a command that can't ask questions and has a time limit."""
    try:
        ran = subprocess.run(command, env=dict(os.environ), timeout=timeout_s, input=b"", capture_output=True)
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
