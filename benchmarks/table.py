"""Every line beside its peer or floor, in one run: the table of docs/performance.md.

    python -m benchmarks.table                       # all lines, about 10 minutes
    python -m benchmarks.table --only loader,start   # some of them, printed and not stored

CPU seconds of one thread, medians; the least and the most beside them. A peer that can't run here has no figure.
"""

import argparse
import os
import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from threadpoolctl import threadpool_limits

from benchmarks import bench_bss_eval, bench_loader, bench_separate, bench_start, bench_step
from sepkit.storage import write_text

PAGE = Path(__file__).parent.parent / "docs" / "performance.md"
BEGIN, END = "<!-- table, by benchmarks/table.py -->\n", "<!-- end of the table -->\n"
PARTS: dict[str, Callable[[], list[dict[str, Any]]]] = {
    "loader": bench_loader.rows,
    "step": lambda: bench_step.rows(["Base", "UMX", "H"], steps=3, rounds=5),
    "bss_eval": bench_bss_eval.rows,
    "separate": lambda: bench_separate.rows((1.0,)),  # longer files: its own section of the page
    "start": bench_start.rows,
}


def machine() -> str:
    """Processor, cores and what else it is doing."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    load = ", ".join(f"{each:.1f}" for each in os.getloadavg())
    return (
        f"{names[0] if names else platform.processor()}, {os.cpu_count()} cores, torch {torch.__version__}, load {load}"
    )


def line(row: dict[str, Any]) -> str:
    peer, times = (f"{row['peer']:.3g}", f"{row['peer'] / row['ours']:.3g}") if row["peer"] else ("—", "—")
    return f"| {row['line']} | {row['ours']:.3g} | {row['spread']} | {peer} | {times} | {row['note']} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", help=f"some of {','.join(PARTS)}")
    options = parser.parse_args()
    chosen = options.only.split(",") if options.only else [*PARTS]
    lines = [
        "| | sepkit, CPU s | least to most | peer | times | against what, and beside it |",
        "|---|---|---|---|---|---|",
    ]
    print("\n".join(lines), flush=True)
    before = machine()
    for part in chosen:
        for row in PARTS[part]():
            lines.append(line(row))
            print(lines[-1], flush=True)
    where = f"{before}; at the end load {os.getloadavg()[0]:.1f}.\n\n"
    print(f"\n{where}")
    if not options.only:
        above, rest = PAGE.read_text(encoding="utf-8").split(BEGIN)
        write_text(PAGE, above + BEGIN + where + "\n".join(lines) + "\n" + END + rest.split(END)[1])


if __name__ == "__main__":
    torch.set_num_threads(1)
    with threadpool_limits(1):
        main()
