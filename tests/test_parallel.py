"""Workers end with their caller; progress, and locks between processes."""

import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import joblib
import pytest
from jupyter_client.manager import start_new_kernel

from sepkit import parallel
from sepkit.parallel import held, locked

CALLER = """
import os, sys, time
from pathlib import Path

folder, kind = Path(sys.argv[1]), sys.argv[2]

def arrive(seconds):
    (folder / str(os.getpid())).touch()
    time.sleep(seconds)

class Slow:  # takes a while to arrive in a worker, as torch's import does
    def __reduce__(self):
        return arrive, (2,)

def work(slow):
    if slow:
        (folder / "worked").touch()
    else:
        arrive(120)

class Clips:
    length, length_in = 1, lambda *_: 1
    def __getitem__(self, key):
        arrive(120)

if __name__ == "__main__":
    if kind == "a batch":
        from sepkit.data.batches import training_loader
        next(iter(training_loader(Clips(), batch_size=1, steps=4, workers=2)))
    else:
        from joblib import delayed
        from sepkit.parallel import spread
        list(spread([delayed(work)(Slow() if kind == "arrives" else None)] * 2, n_jobs=2))
"""


def alive(pid):
    """Whether the process runs; one that ended and waits for its parent does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait(until, seconds):
    end = time.monotonic() + seconds
    while time.monotonic() < end and not until():
        time.sleep(0.05)
    return until()


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("kind", ["works", "arrives", "a batch"])
def test_workers_end_when_their_caller_is_killed(tmp_path, kind):
    """At work, before their first work has arrived, and in the middle of a batch."""
    (tmp_path / "caller.py").write_text(CALLER)
    (tmp_path / "at_work").mkdir()
    working = lambda: [int(file.name) for file in (tmp_path / "at_work").iterdir() if file.name.isdigit()]  # noqa: E731
    caller = subprocess.Popen([sys.executable, tmp_path / "caller.py", tmp_path / "at_work", kind])
    try:
        assert wait(lambda: len(working()) == 2, 60)
        workers = working()
        caller.send_signal(signal.SIGKILL)
        caller.wait()
        assert wait(lambda: not any(map(alive, workers)), 5)
        assert not (tmp_path / "at_work/worked").exists()
    finally:
        caller.kill()


def inside(number):
    return sum(parallel.spread([joblib.delayed(abs)(-each) for each in range(number)], n_jobs=2))


def test_a_call_inside_a_call_ends_no_worker():
    assert list(parallel.spread([joblib.delayed(inside)(number) for number in (3, 4)], n_jobs=2)) == [3, 6]


BAR = """
from sepkit import parallel
for _ in parallel.progress(range(3), doing="score", total=3, name=lambda n: f"song {n}"):
    pass
with parallel.bar("Base-s0", 8) as bar:
    bar.update(5)
"""


@pytest.fixture(scope="module")
def notebook():
    """Runs code in a kernel as a front end that can ask a person, or as papermill; the messages of its outputs."""
    manager, client = start_new_kernel(kernel_name="python3")

    def run(code, *, person):
        messages = []
        client.execute_interactive(code, allow_stdin=person, output_hook=messages.append, timeout=60)
        return [
            (each["msg_type"], each["content"])
            for each in messages
            if "data" in each["content"] or "text" in each["content"]
        ]

    yield run
    client.stop_channels()
    manager.shutdown_kernel(now=True)


def test_a_person_at_a_notebook_sees_a_bar_that_is_not_stored(notebook):
    outputs = notebook(BAR, person=True)
    shown = [content for kind, content in outputs if kind == "display_data"]
    assert len(shown) == 2 and all("application/vnd.jupyter.widget-view+json" in each["data"] for each in shown)
    stored = {each["transient"]["display_id"]: each["data"] for _, each in outputs if "transient" in each}  # the last
    assert [*stored.values()] == [{"text/plain": ""}] * 2
    (line,) = (content["text"] for kind, content in outputs if kind == "stream")
    assert re.fullmatch(r"score: 3 done in \d s\n", line)


def test_a_headless_notebook_gets_one_line(notebook):
    ((kind, content),) = notebook(BAR, person=False)
    assert kind == "stream" and re.fullmatch(r"score: 3 done in \d s\n", content["text"])


def test_a_log_gets_a_line_an_item(capsys):
    exec(BAR)
    assert capsys.readouterr() == ("score 1/3 song 0\nscore 2/3 song 1\nscore 3/3 song 2\n", "")


def test_a_terminal_gets_a_bar_that_leaves_nothing(capsys, monkeypatch):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    exec(BAR)
    out, err = capsys.readouterr()
    assert out == ""
    assert "score:   0%" in err and "Base-s0:   0%" in err
    assert err.endswith("\r") and not err.rsplit("\r", 2)[1].strip()


def no_locks(*_):
    raise OSError(95, "Operation not supported")


@pytest.mark.parametrize("reason", ["Operation not supported", "this system has no locks"])
def test_work_goes_on_with_a_line_where_nothing_can_be_locked(tmp_path, monkeypatch, capsys, reason):
    """S73, S81: Windows has no fcntl; NFS and FUSE may refuse flock."""
    if reason == "this system has no locks":
        monkeypatch.setattr(parallel, "fcntl", None)
    else:
        monkeypatch.setattr(parallel.fcntl, "flock", no_locks)
    with locked(tmp_path / ".lock", "Base-s0 is being trained"):
        assert held(tmp_path / ".lock") is None
    assert capsys.readouterr().out == f"{tmp_path} can't be locked ({reason}); use it in one process only\n"


def test_a_lock_is_held_as_long_as_its_block(tmp_path):
    file = tmp_path / ".lock"
    assert held(file) is False
    with locked(file, "work"):
        assert held(file) is True
    assert held(file) is False
