"""docs/own_network.md as a user follows it: its file in a folder of its own, its commands in fresh processes."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
import soundfile as sf

PROJECT = Path(__file__).parents[1]
PAGE = (PROJECT / "docs" / "own_network.md").read_text(encoding="utf-8")
CODE, WAVES = re.findall(r"```python\n(.*?)```", PAGE, re.S)
COMMANDS = re.search(r"```\n(python -m sepkit .*?)```", PAGE, re.S).group(1).splitlines()
USE = """
import json, sys, torch
from pathlib import Path
here = Path(sys.argv[1])
sys.path.insert(0, str(here))
import runpy
model = runpy.run_path(str(here / "load.py"))["model"]
print(json.dumps([type(model).__module__, list(model(torch.zeros(1, 2, 5000)).shape)]))
"""


class Shell:
    """Commands of fresh processes in the folder that holds my_nets.py and nothing of sepkit."""

    def __init__(self, folder, songs):
        self.folder, self.where = folder, ["--root", str(folder / "root"), "--profile", "demo"]
        self.data = ["--data", str(songs), "--device", "cpu"]

    def call(self, command, *more, cwd=None):
        arguments = command.split()[3:] if isinstance(command, str) else command
        data = self.data if arguments[0] in ("train", "evaluate", "grid") else []
        return subprocess.Popen(
            [sys.executable, "-m", "sepkit", *arguments, *more, *data, *self.where], cwd=cwd or self.folder, text=True,
            env={**os.environ, "PYTHONPATH": str(PROJECT), "OMP_NUM_THREADS": "1"}, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )  # fmt: skip

    def __call__(self, command, *more, **options):
        process = self.call(command, *more, **options)
        out, err = process.communicate(timeout=300)
        return process.returncode, out, err


@pytest.fixture(scope="module")
def shell(tmp_path_factory, mini_songs, scored_root):
    """Beside the file a root in which Base and the references are trained and scored already."""
    folder = tmp_path_factory.mktemp("user")
    (folder / "my_nets.py").write_text(CODE, encoding="utf-8")
    shutil.copytree(scored_root.path, folder / "root")
    return Shell(folder, mini_songs)


def test_the_file_of_the_page_is_short_and_complete():
    assert len(CODE.strip().splitlines()) <= 40
    compile(CODE, "my_nets.py", "exec")
    compile(WAVES, "waves", "exec")


@pytest.mark.long
def test_the_page_from_training_to_export(shell):
    train, _, grid, compare, scoreboard, report, separate, export = COMMANDS
    run = shell.folder / "root" / "runs" / "Tiny-s0"
    training = shell.call(train)
    while not (run / "last.ckpt").exists():
        assert training.poll() is None, training.communicate()
        time.sleep(0.02)
    os.kill(training.pid, signal.SIGKILL)
    training.communicate()
    assert json.loads((run / "status.json").read_text())["state"] == "running"
    code, out, err = shell(train)  # goes on
    assert (code, err) == (0, "") and "Tiny-s0 is finished" in out
    history = pd.read_csv(run / "history.csv")
    assert list(history["epoch"]) == list(range(1, len(history) + 1))
    assert history["valid_sdr"].iloc[-1] > history["valid_sdr"].iloc[0]

    scored = ["evaluate", "my_nets:Tiny"]
    assert shell(scored, "--jobs", "2")[0] == 0
    base = {name: (shell.folder / "root" / "runs" / "Base-s0" / name).stat().st_mtime_ns for name in ("best.ckpt",)}
    own = grid.replace("my_nets:Tiny,Base", "my_nets:Tiny").split()[3:]
    code, out, err = shell(own, "--jobs", "2", "--seeds", "0,1")  # in two workers
    assert code == 0, err
    assert {"Tiny-s0", "Tiny-s1"} <= set(out.split())
    assert base == {"best.ckpt": (shell.folder / "root" / "runs" / "Base-s0" / "best.ckpt").stat().st_mtime_ns}

    code, out, _ = shell(compare)
    assert code == 0 and "Tiny" in out and "Base" in out
    code, out, _ = shell(scoreboard)
    assert code == 0
    board = pd.read_csv(shell.folder / "root" / "scoreboard.csv").set_index("Exp")
    assert list(board.loc["Tiny", ["Backbone", "Domain", "Extras", "runs"]]) == ["TinyNet", "STFT", "one layer", 2]
    assert {"Base", "mixture", "oracle"} < set(board.index)
    assert shell(report)[0] == 0
    html = (shell.folder / "root" / "report" / "milestone2.html").read_text(encoding="utf-8")
    for words in (
        "one GRU layer with 64 units a direction",
        "learn as much in so few epochs",
        "my_nets:Tiny --seeds 0,1",
    ):
        assert words in html

    sf.write(shell.folder / "song.wav", [[0.1, -0.1]] * 9999, 44100)
    assert shell(separate)[0] == 0
    assert sf.info(shell.folder / "song.vocals.wav").frames == 9999
    assert shell(export)[0] == 0
    out = shell.folder / "folder"
    assert (out / "my_nets.py").read_text(encoding="utf-8") == CODE
    call = [sys.executable, "-c", USE, str(out)]
    done = subprocess.run(call, env={**os.environ, "PYTHONPATH": str(PROJECT)}, cwd="/", capture_output=True, text=True)
    assert json.loads(done.stdout) == ["my_nets", [1, 1, 2, 5000]], done.stderr

    assert shell(["plan", "--pick", "my_nets:Tiny"])[0] == 0
    assert shell(["doctor"])[0] == 0
    for command in (
        ["evaluate", "Tiny", "--split", "valid"],
        ["separate", str(shell.folder / "song.wav"), "--run", "Tiny"],
    ):
        code, out, err = shell(command, cwd=shell.folder / "root")  # where its module is not
        assert code == 2 and err.count("\n") == 1
        assert "my_nets:TinyNet needs the module my_nets, but there is no my_nets.py in " in err
