"""Runs as training writes them, a few bytes each, for tests of the copy on Drive."""

import json

HISTORY = "epoch,train_loss,valid_loss,valid_sdr,learning_rate,seconds\n"


def train(root, epochs, *, word="a", state="running", run="Base-s0"):
    """Writes a run after `epochs` epochs; runs of one word are one training."""
    folder = root.path / "runs" / run
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps({"run": run}))
    rows = "".join(f"{n},0.{n},0.{n},{word}{n},0.1,9\n" for n in range(1, epochs + 1))
    (folder / "history.csv").write_text(HISTORY + rows)
    for name, epoch in (("best", epochs), ("previous", epochs - 1), ("last", epochs)):
        if epoch:
            (folder / f"{name}.ckpt").write_text(f"{word} epoch {epoch} " * 100)
    (folder / "status.json").write_text(json.dumps({"state": state}))
    return folder


def spend(root, minutes=1.0, run="Base-s0"):
    root.add_minutes(run=run, stage="train", minutes=minutes, device="T4", gpu_attached=True)


def content(folder):
    """{path: bytes} of every file but hidden ones: records of syncs, locks, temporary files."""
    files = [file for file in folder.rglob("*") if file.is_file() and file.name[0] != "."]
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in files}


def epochs_on(folder, run="Base-s0"):
    """(rows of history.csv, the epoch in last.ckpt) of a run, the latter 0 without one."""
    path = folder / "runs" / run
    last = path / "last.ckpt"
    return len((path / "history.csv").read_text().splitlines()) - 1, int(
        last.read_text().split()[2]
    ) if last.exists() else 0
