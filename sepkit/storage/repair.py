"""What a run needs and lacks, brought back: from the copy on Drive, from another checkpoint, or by training again."""

import json
from collections.abc import Callable
from contextlib import suppress

from sepkit.errors import SepkitError
from sepkit.storage import drive
from sepkit.storage.checkpoints import best_checkpoint, load_checkpoint
from sepkit.storage.copying import ANSWER_S, within
from sepkit.storage.files import write_text
from sepkit.storage.root import Run


def mend(run: Run) -> None:
    """Brings back config.json, status.json and history.csv where they can't be read, or puts them aside, with a line.

    history.csv keeps its whole rows. The same training then goes on, and writes what is missing.
    """
    for name, check in CHECKS.items():
        file = run.path / name
        with suppress(FileNotFoundError, ValueError):
            check(file.read_text(encoding="utf-8"))
            continue
        if not file.exists():
            continue
        with suppress(OSError, ValueError):
            if copy := drive.drive_folder(run.root):
                text = within(ANSWER_S, (copy / "runs" / run.name / name).read_text, "utf-8")
                check(text)
                write_text(file, text)
                print(f"{run.name}: {name} was damaged; it is back from the copy on Drive", flush=True)
                continue
        lines = file.read_bytes().decode("utf-8", "replace").splitlines(keepends=True)
        whole = [line for line in lines if line.endswith("\n") and line.count(",") == lines[0].count(",")]
        if name == "history.csv" and len(whole) > 1 and lines[0].startswith("epoch,"):
            write_text(file, "".join(whole))
            print(f"{run.name}: {name} was damaged; {len(whole) - 1} whole epochs are kept", flush=True)
        else:
            aside = file.replace(file.with_name(f".{name}.damaged"))
            print(f"{run.name}: {name} can't be read; it lies in {aside.name} now. Train the run again.", flush=True)


def has_best(run: Run) -> bool:
    """Whether the best weights of a finished run are there, or could be brought back."""
    try:
        return bool(best_checkpoint(run))
    except SepkitError:
        return False


def start_again(run: Run) -> None:
    """Lets a finished run without its best weights go on from a checkpoint before them, or from its start."""
    best_epoch = run.status.get("best_epoch") or 0
    print(f"{run.name}: no whole checkpoint of its best epoch {best_epoch} is left; it is trained again", flush=True)
    for path in (run.last, run.path / "previous.ckpt"):
        try:
            past = load_checkpoint(path).get("epoch", -1) + 1 >= best_epoch
        except SepkitError:
            past = True
        if past:
            path.unlink(missing_ok=True)
    run.best.unlink(missing_ok=True)


def _holds(key: str) -> Callable[[str], None]:
    def check(text: str) -> None:
        content = json.loads(text)
        if not isinstance(content, dict) or key not in content:
            raise ValueError(f"no {key}")

    return check


def _whole_rows(text: str) -> None:
    if not text.endswith("\n") or len({line.count(",") for line in text.splitlines()}) != 1:
        raise ValueError("cut short")


CHECKS = {"config.json": _holds("experiment"), "status.json": _holds("state"), "history.csv": _whole_rows}
