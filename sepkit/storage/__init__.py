"""What is kept: files.py writes files that are complete or absent, root.py knows what lies where under a root and its
runs, ledger.py counts the minutes, drive.py keeps the copy on Drive, checkpoints.py loads a run's network,
excerpts.py keeps what a run makes of two songs.
"""

from sepkit.storage.files import (
    named,
    read_json,
    read_names,
    remove_leftovers,
    write_csv,
    write_json,
    write_text,
    writing,
)  # fmt: skip
from sepkit.storage.ledger import WEEK_HOURS, budget, hours_left, spending
from sepkit.storage.root import SCORE_DECIMALS, Root, RootLike, Run, git_revision, read_scores, run_name, versions

__all__ = [
    "SCORE_DECIMALS", "WEEK_HOURS", "Root", "RootLike", "Run", "budget", "git_revision", "hours_left", "named",
    "read_json", "read_names", "read_scores", "remove_leftovers", "run_name", "spending", "versions", "write_csv",
    "write_json", "write_text", "writing",
]  # fmt: skip
