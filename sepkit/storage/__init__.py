"""What is kept: the root and its runs, the ledger, the copy on Drive, checkpoints.

files.py writes files that are complete or absent, root.py knows what lies where, ledger.py counts the
minutes, drive.py keeps the copy, checkpoints.py loads a run's network.
"""

from sepkit.storage.files import read_json, read_names, remove_leftovers, write_csv, write_json, write_text, writing
from sepkit.storage.ledger import WEEK_HOURS, budget, hours_left, spending
from sepkit.storage.root import (
    BUDGET_COLUMNS,
    SCORE_DECIMALS,
    VERSIONED,
    Root,
    Run,
    default_root,
    git_revision,
    read_scores,
    run_name,
    versions,
)

__all__ = [
    "BUDGET_COLUMNS", "SCORE_DECIMALS", "VERSIONED", "WEEK_HOURS", "Root", "Run", "budget", "default_root",
    "git_revision", "hours_left", "read_json", "read_names", "read_scores", "remove_leftovers", "run_name", "spending",
    "versions", "write_csv", "write_json", "write_text", "writing",
]  # fmt: skip
