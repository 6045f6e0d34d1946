"""CPU seconds until a command is ready: sepkit's beside those of openunmix, demucs and museval, each in a process of its own.

python benchmarks/bench_start.py
"""

import resource
import subprocess
import sys
from typing import Any

import numpy as np

PAIRS = {  # line: (sepkit's, the peer's, what that is)
    "start of separate --help": (("-m", "sepkit", "separate", "--help"), ("-m", "demucs.separate", "--help"), "demucs.separate --help"),
    "start of train --help": (("-m", "sepkit", "train", "--help"), ("-c", "import openunmix, openunmix.data"), "import of openunmix"),
    "start of scoreboard --help": (("-m", "sepkit", "scoreboard", "--help"), ("-c", "import museval"), "import of museval; it needs ffmpeg"),
}  # fmt: skip


def cpu_seconds(arguments: tuple[str, ...]) -> float | None:
    """Of a process, its children included; None where it fails."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([sys.executable, *arguments], capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime if done.returncode == 0 else None


def rows(rounds: int = 5) -> list[dict[str, Any]]:
    """A line a command: {line, ours, peer, unit, spread, note}; peer None where it can't be started."""
    found = []
    for line, (own, peer, what) in PAIRS.items():
        taken = {name: [cpu_seconds(of) for _ in range(rounds + 1)][1:] for name, of in (("ours", own), ("peer", peer))}
        ours = [seconds for seconds in taken["ours"] if seconds is not None]
        theirs = [seconds for seconds in taken["peer"] if seconds is not None]
        median = {"ours": float(np.median(ours)), "peer": float(np.median(theirs)) if theirs else None}
        spread = f"{min(ours):.3g} to {max(ours):.3g}"
        found.append({"line": line, **median, "unit": "CPU s", "spread": spread, "note": f"against {what}"})
    return found


def main() -> None:
    for row in rows():
        peer = "no peer" if row["peer"] is None else f"peer {row['peer']:.3g}"
        print(f"{row['line']}: {row['ours']:.3g} {row['unit']} [{row['spread']}], {peer}; {row['note']}")


if __name__ == "__main__":
    main()
