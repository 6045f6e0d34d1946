"""The command line: exit statuses, one line where it fails, and each command's work."""

import contextlib
import io
import os
import re
import shutil
import subprocess
import sys

import pandas as pd
import pytest

import sepkit
from sepkit.__main__ import COMMANDS, main
from sepkit.storage import Root, write_csv


def test_the_contracts_commands_are_there():
    contract = "doctor demo fetch cache train grid evaluate separate export compare scoreboard report budget plan week"
    assert set(COMMANDS) == set(contract.split())
    assert all(callable(getattr(sepkit, name)) for name in COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_has_help(name, capsys):
    with pytest.raises(SystemExit) as exit:
        main([name, "--help"])
    assert exit.value.code == 0
    out = capsys.readouterr().out
    assert out.startswith(f"usage: sepkit {name}")
    assert "--root" in out
    assert "--profile" in out


@pytest.mark.parametrize(
    "call",
    [
        "", "sing", "train", "train Base --sead 1", "train Base --seed one", "week --days one", "plan --hours many",
        "grid", "grid --experiments Base --folds some",
    ],
)  # fmt: skip
def test_a_call_that_argparse_refuses_is_wrong(call, capsys):
    with pytest.raises(SystemExit) as exit:
        main(call.split())
    assert exit.value.code == 2
    assert capsys.readouterr().err


@pytest.mark.parametrize(
    ("call", "words"),
    [
        ("train Zzz", "no experiment 'Zzz'; expected one of Base"),
        ("train Base --profile tiny", "no profile 'tiny'; expected one of demo"),
        ("train Base --device tpu", "no device 'tpu'"),
        ("evaluate Zzz", "no experiment 'Zzz'"),
        ("plan --pick Base,Zzz", "no experiment 'Zzz'"),
        ("plan --minutes 0", "minutes above 0"),
        ("grid --experiments Base,Zzz", "no experiment 'Zzz'"),
        ("plan --profile full --hours 0", "hours above 0"),
        ("week --days 8", "Days are numbered 1 to 7, got [8]"),
        ("week --pick Zzz", "no experiment 'Zzz'"),
    ],
)
def test_a_call_with_unknown_names_is_wrong(call, words, tmp_path, capsys):
    assert main([*call.split(), "--root", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.startswith("sepkit: ")
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("call", "words"),
    [
        ("train Base --data {no}", "No folder of songs at"),
        ("cache --data {no}", "does not exist"),
        ("cache --profile full", "needs MUSDB18-HQ"),
        ("evaluate Base", "no run 'Base-s0' under"),
        ("evaluate mixture --data {no}", "No folder of songs at"),
        ("separate {no}/song.wav", "There is no file"),
        ("compare C Base", "C-s0 is not scored yet"),
        ("demo {file}/below", "file"),
        ("doctor --profile full --data {no} --json", ""),
    ],
)
def test_work_that_fails_says_why_in_one_line(call, words, tmp_path, capsys):
    (tmp_path / "file").touch()
    call = call.format(no=tmp_path / "no", file=tmp_path / "file")
    assert main([*call.split(), "--root", str(tmp_path / "root")]) == 1
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == (1 if words else 0)
    assert "Traceback" not in error


@pytest.mark.parametrize(
    ("error", "words"),
    [(KeyboardInterrupt(), "continues from there"), (OSError(28, "No space left on device"), "No space")],
)
def test_ctrl_c_and_a_full_disk_are_one_line(error, words, tmp_path, monkeypatch, capsys):
    def stop(*arguments, **options):
        raise error

    monkeypatch.setattr("sepkit.training.train.train", stop)
    assert main(["train", "Base", "--root", str(tmp_path)]) == 1
    assert words in capsys.readouterr().err


def test_the_module_runs_as_a_program(tmp_path):
    environment = {**os.environ, "PYTHONPATH": ".", "SEPKIT_ROOT": str(tmp_path)}
    answer = subprocess.run(
        [sys.executable, "-m", "sepkit", "train", "Base", "--data", str(tmp_path / "no")],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert answer.returncode == 1
    assert answer.stdout == ""
    assert re.fullmatch(r"sepkit: No folder of songs at .*\n", answer.stderr)


def test_a_reader_that_stops_early_is_no_error_message(tmp_path):
    call = [sys.executable, "-m", "sepkit", "scoreboard", "--root", str(tmp_path)]
    with subprocess.Popen(call, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        process.stdout.close()  # as `| head` does
        assert process.stderr.read() == ""
    assert process.returncode == 1
    assert (tmp_path / "scoreboard.csv").exists()


def test_budget_and_plan_are_tables(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("sepkit.training.plan.pick_device", lambda device: "cpu")
    root = Root.open(tmp_path, "full")
    assert main(["budget", "--root", str(tmp_path)]) == 0
    assert "nothing yet" in capsys.readouterr().out
    root.add_minutes(run="Base-s0", stage="train", minutes=90.0, device="T4", gpu_attached=True)
    write_csv(root.run("Base-s0").path / "history.csv", pd.DataFrame({"seconds": [60.0], "ranks": [1]}))
    assert main(["budget", "--root", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["run", "stage", "minutes", "gpu_min", "vram_mib", "device"]
    assert lines[2].split() == ["Base-s0", "train", "90.00", "90.00", "0.00", "T4"]
    assert lines[3] == "GPU hours left: 6.50 of 8"
    assert main(["plan", "--profile", "full", "--root", str(tmp_path), "--pick", "F, A", "--hours", "1"]) == 0
    out = capsys.readouterr().out
    assert [line.split()[0] for line in out.splitlines()[1:4]] == ["Base", "F", "A"]
    assert "measured in Base-s0" in out
    assert "estimate for a T4" in out


@pytest.mark.parametrize(
    ("call", "target", "positional", "named"),
    [
        (
            "grid --experiments Base,E --seeds 2,3 --folds none,1 --jobs 1 --data d --device cpu --session-hours 2 --cluster h:8 "
            "--set training.epochs=2 --set loss.alpha=flat --logger tensorboard",
            "sepkit.commands.grid.grid",
            (),
            {
                "experiments": ["Base", "E"],
                "seeds": [2, 3],
                "folds": [None, 1],
                "n_jobs": 1,
                "data": "d",
                "device": "cpu",
                "cluster": "h:8",
                "devices": 1,
                "num_nodes": 1,
                "strategy": "auto",
                "hours": None,
                "session_hours": 2.0,
                "changes": ["training.epochs=2", "loss.alpha=flat"],
                "logger": "tensorboard",
            },
        ),
        (
            "plan --pick Base,E --minutes 0.1 --data d --device cpu",
            "sepkit.training.plan.equal_epochs",
            (["Base", "E"],),
            {"minutes": 0.1, "data": "d", "device": "cpu"},
        ),
    ],
)
def test_arguments_reach_the_call_and_its_table_is_printed(call, target, positional, named, monkeypatch, capsys):
    calls = []

    def stub(*arguments, **options):
        calls.append((arguments, options))
        return pd.DataFrame({"run": ["Base-s2"], "minutes": [0.5]})

    monkeypatch.setattr(target, stub)
    assert main(call.split()) == 0
    assert calls == [(positional, {"profile": None, "root": None, **named})]
    assert capsys.readouterr().out.splitlines()[2].split() == ["Base-s2", "0.50"]


def test_cache_says_its_size_before_it_builds(mini_songs, tmp_path, capsys):
    assert main(["cache", "--data", str(mini_songs), "--root", str(tmp_path)]) == 0
    *built, last = capsys.readouterr().out.splitlines()
    for lines, songs in ((built[:4], 3), (built[4:], 4)):  # for training at 22.05 kHz, for scoring at 44.1 kHz
        assert re.search(r"\d GB", lines[0])
        assert [line.split()[1] for line in lines[1:]] == [f"{number}/{songs}" for number in range(1, songs + 1)]
    assert last.startswith("cache: 3 songs")


def test_evaluating_a_reference_prints_its_medians(mini_songs, make_root, capsys):
    root = make_root()
    call = ["evaluate", "mixture", "--data", str(mini_songs), "--root", str(root.path), "--jobs", "1"]
    assert main(call) == 0
    out = capsys.readouterr().out
    assert "score mixture 1/1 T0 - Test" in out
    assert re.search(r"mixture: medians over songs, dB \(.*runs/mixture/scores.csv\)", out)
    assert re.search(r"vocals +sdr_bsseval +-?\d+\.\d\d \[.*\] n 1", out)
    assert main(["compare", "mixture", "mixture", "--root", str(root.path)]) == 0
    assert "nothing to test" in capsys.readouterr().out


def printed(call, encoding):
    """(exit status, what was printed) on a terminal of this encoding."""
    out = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        try:
            status = main(call)
        except SystemExit as exit:
            status = exit.code
    out.flush()
    return status, out.buffer.getvalue().decode(encoding)


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
@pytest.mark.parametrize("call", ["--help", "scoreboard", "compare Base mixture", "evaluate mixture", "train Zö€"])
def test_a_terminal_without_some_letters_ends_no_command(
    call, encoding, scored_root, mini_songs, tmp_path, monkeypatch
):
    """S70: dashes and marks become question marks; everything else stays."""
    root = shutil.copytree(scored_root.path, tmp_path / "root")
    monkeypatch.setenv("SEPKIT_DATA", str(mini_songs))
    words = [*call.split(), *([] if call == "--help" else ["--root", str(root)])]
    (status, text), (expected, whole) = printed(words, encoding), printed(words, "utf-8")
    assert status == expected == (2 if "€" in call else 0)
    assert text == whole.encode(encoding, errors="replace").decode(encoding)


def test_a_name_that_is_no_utf8_can_be_printed(tmp_path, monkeypatch):
    """S58."""
    monkeypatch.setattr("sepkit.training.train.train", lambda *_, **__: print("Caf\udc82 —"))
    monkeypatch.setattr("sepkit.commands.train.show", print)
    assert printed(["train", "Base", "--root", str(tmp_path)], "utf-8") == (0, "Caf\\udc82 —\nNone\n")


READ_IN_ASCII = """
import sys
from sepkit.data.build import build_cache
from sepkit.data.cache import CacheSettings
from sepkit.data.songs import find_songs
from sepkit.storage import Root

assert sys.getfilesystemencoding() == "ascii"
cache = build_cache(find_songs(sys.argv[1]), Root.open(sys.argv[2]), CacheSettings(), n_jobs=1)
print(ascii([(name, cache.song(name)[0].shape) for name in cache.songs]))
"""


def test_a_system_whose_names_are_ascii_reads_all_songs(make_song, tmp_path):
    """S70: LC_ALL=C, as in containers and cron; names stay what they are elsewhere."""
    make_song(tmp_path / "songs/train/Café — Un", seconds=0.5)
    environment = {**os.environ, "LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    environment |= {"PYTHONIOENCODING": "utf-8", "PYTHONPATH": "."}
    call = [sys.executable, "-c", READ_IN_ASCII, str(tmp_path / "songs"), str(tmp_path / "root")]
    answer = subprocess.run(call, env=environment, capture_output=True, text=True, check=False)
    assert answer.stdout.splitlines()[-1:] == [ascii([("Café — Un", (2, 22050))])], answer.stderr
    assert [file.name for file in tmp_path.glob("root/cache/*/*.h5")] == ["Café — Un.h5"]
