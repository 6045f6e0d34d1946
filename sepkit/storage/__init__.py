"""What is kept: files.py writes files that are complete or absent, root.py knows what lies where under a root and its
runs, scores.py reads their scores, ledger.py counts the minutes, drive.py keeps the copy on Drive, checkpoints.py loads a run's network,
excerpts.py keeps what a run makes of two songs.
"""

from sepkit.storage.files import named, read_json, remove_leftovers, write_csv, write_json, write_text, writing
from sepkit.storage.ledger import WEEK_HOURS, budget, hours_left, spending
from sepkit.storage.root import DataLike, Root, RootLike, Run, git_revision, run_name, versions
from sepkit.storage.scores import frames_beside, read_frames, read_scores, with_windows

__all__ = [
    "WEEK_HOURS", "DataLike", "Root", "RootLike", "Run", "budget", "frames_beside", "git_revision", "hours_left", "named", "read_frames",
    "read_json", "read_scores", "remove_leftovers", "run_name", "spending", "versions", "with_windows", "write_csv",
    "write_json", "write_text", "writing",
]  # fmt: skip
