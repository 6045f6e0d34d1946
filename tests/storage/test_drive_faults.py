"""Each row of docs/drive.md: a fault of Drive, what is shown, what is lost.

Faults are simulated at the calls that reach Drive; where this machine allows mounts, three are real (tmpfs).
"""

import errno
import json
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from sepkit import notebook
from sepkit.commands.doctor import doctor
from sepkit.storage import Root, copying, sync
from sepkit.storage.drive import pull, push
from tests.storage.sync_files import content, epochs_on, spend, train


@pytest.fixture
def root(tmp_path):
    """A root after one epoch, two rows in its ledger."""
    root = Root.open(tmp_path / "root")
    train(root, 1)
    spend(root)
    spend(root)
    return root


@pytest.fixture
def drive(tmp_path, monkeypatch):
    """The copy, in a mounted Drive."""
    folder = tmp_path / "content/drive/MyDrive/sepkit-root"
    folder.parent.mkdir(parents=True)
    monkeypatch.setenv("SEPKIT_DRIVE", str(folder))
    return folder


@pytest.fixture(autouse=True)
def pauses(monkeypatch):
    made = []
    monkeypatch.setattr(copying.time, "sleep", made.append)
    return made


def on_drive(monkeypatch, drive, fault, *, calls=("stat", "open", "mkdir", "unlink", "replace", "glob")):
    """Makes `calls` of Path below MyDrive fail, or whatever `fault(path)` does."""
    for name in calls:
        real = getattr(Path, name)

        def call(path, *arguments, _real=real, **options):
            if path.is_relative_to(drive.parent):
                fault(path)
            return _real(path, *arguments, **options)

        monkeypatch.setattr(Path, name, call)


def failing(code):
    def fault(path):
        raise OSError(code, os.strerror(code), str(path))

    return fault


def copying_fails(monkeypatch, code, which=lambda source: True):
    real = shutil.copyfile

    def copyfile(source, destination):
        if which(Path(source)):
            Path(destination).write_bytes(Path(source).read_bytes()[:9])  # what fitted
            raise OSError(code, os.strerror(code), str(destination))
        return real(source, destination)

    monkeypatch.setattr(copying.shutil, "copyfile", copyfile)


def begins(root):
    """What the day's first cell and `doctor` show; neither raises."""
    shown = str(notebook.Day(1, notebook.get_profile("demo"), root, None, 0, ()))
    assert "Traceback" not in shown
    return shown, doctor(root=root, profile="demo").environment["drive"]


def local_is_whole(root):
    assert epochs_on(root.path) == (1, 1)
    assert len(root.budget()) >= 2


def test_no_drive(root):
    assert push(root) is None
    assert pull(root) is None
    shown, doctors = begins(root)
    assert "no copy on Drive: results are lost when this machine is" in shown
    assert doctors is None


def test_first_day(root, drive):
    shown, doctors = begins(root)
    assert "copy" not in shown
    assert doctors == str(drive)
    assert pull(root).safe
    assert str(push(root)) == "6 files copied; everything is in the copy"
    assert content(drive) == content(root.path)


def test_not_mounted(root, drive):
    drive.parent.rmdir()
    before = sorted(drive.parents[2].rglob("*"))
    for result in (push(root), pull(root)):
        assert "Drive is not mounted: there is no folder" in str(result)
        assert not result.safe
    assert all("not mounted" in text for text in begins(root))
    assert sorted(drive.parents[2].rglob("*")) == before  # nobody but the mount makes MyDrive
    local_is_whole(root)


def test_mount_point_without_mount(root, drive, monkeypatch):
    """A local folder where Colab's mount was is no Drive."""
    monkeypatch.setenv("SEPKIT_MOUNT", str(drive.parents[1]))
    assert f"Drive is not mounted at {drive.parents[1]}" in str(push(root))
    assert content(drive.parents[1]) == {}


def test_another_folder_in_its_place(root, drive):
    push(root)
    shutil.move(drive, drive.with_name("elsewhere"))
    for make in (False, True):
        if make:
            drive.mkdir()
        assert "is not the copy that this root was synced with" in str(push(root))
        assert "mount Drive again" in str(pull(root))
        assert content(drive) == {}
    local_is_whole(root)


def test_mounted_late(root, drive):
    drive.parent.rmdir()
    push(root)
    drive.parent.mkdir()
    assert push(root).safe
    assert content(drive) == content(root.path)


def test_hanging(root, drive, monkeypatch):
    """The first call waits its time limit, all others fail at once: an epoch is not blocked."""
    never, waits = threading.Event(), []
    monkeypatch.setattr(copying, "ANSWER_S", 0.2)

    def hang(path):
        waits.append(path)
        never.wait()

    on_drive(monkeypatch, drive, hang)
    try:
        for result in (push(root), pull(root), push(root)):
            assert "Drive does not answer" in str(result)
        assert all("does not answer" in text for text in begins(root))
        assert len(waits) == 1
    finally:
        never.set()
        for thread in copying._stuck.pop("Drive", []):
            thread.join()
    local_is_whole(root)


def test_hanging_on_the_way(root, drive, monkeypatch):
    never = threading.Event()
    monkeypatch.setattr(copying, "seconds_for", lambda size: 0.2)
    real = shutil.copyfile

    def copyfile(source, destination):
        if Path(source).name == "best.ckpt":
            never.wait()
        return real(source, destination)

    monkeypatch.setattr(copying.shutil, "copyfile", copyfile)
    try:
        result = push(root)
        assert "Drive does not answer" in str(result)
        assert result.copied == ["budget.csv"]
    finally:
        never.set()
        for thread in copying._stuck.pop("Drive", []):
            thread.join()
    assert push(root).safe
    assert content(drive) == content(root.path)


def test_read_only(root, drive, monkeypatch):
    push(root)
    other = Root.open(root.path.with_name("other"))
    train(root, 2)
    copying_fails(monkeypatch, errno.EROFS)
    result = push(root)
    assert "nothing can be written there (errno 30)" in str(result)
    assert epochs_on(drive) == (1, 1)
    monkeypatch.undo()
    assert pull(other, drive).safe
    assert epochs_on(other.path) == (1, 1)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT], ids=["no space", "quota"])
def test_full(root, drive, monkeypatch, code):
    copying_fails(monkeypatch, code, lambda source: source.suffix == ".ckpt")
    result = push(root)
    assert f"there is no room left, delete something (errno {code})" in str(result)
    assert "mounted" not in str(result)
    assert sorted(result.failed) == ["runs/Base-s0/best.ckpt", "runs/Base-s0/last.ckpt"]
    assert len(content(drive)) == 4
    assert not list(drive.rglob(".*.part"))
    monkeypatch.undo()
    assert push(root, drive).safe
    assert content(drive) == content(root.path)


def test_full_calls_nothing_finished(root, drive, monkeypatch):
    """An old checkpoint on Drive with the word finished beside it would read as complete."""
    push(root)
    train(root, 2, state="finished")
    copying_fails(monkeypatch, errno.ENOSPC, lambda source: source.suffix == ".ckpt")
    left = {f"runs/Base-s0/{name}" for name in ("best.ckpt", "last.ckpt", "previous.ckpt", "status.json")}
    assert {*push(root).failed} == left
    assert (drive / "runs/Base-s0/status.json").read_text() == '{"state": "running"}'
    assert epochs_on(drive) == (2, 1)  # as after a kill between history.csv and last.ckpt


def test_cache_takes_the_last_place(root, drive, monkeypatch):
    """A quota that the cache would fill: results find room, and the cache gives way."""
    cache = root.path / "cache/wave-0123"
    cache.mkdir(parents=True)
    for number in range(9):
        (cache / f"{number}.h5").write_bytes(bytes(2000))
    real, quota = shutil.copyfile, 15_000

    def limited(source, destination):
        room = quota - sum(path.stat().st_size for path in drive.rglob("*") if path.is_file())
        if Path(source).stat().st_size > room:
            raise OSError(errno.EDQUOT, "Disk quota exceeded")
        return real(source, destination)

    monkeypatch.setattr(copying.shutil, "copyfile", limited)
    result = push(root)
    assert set(result.failed) == {f"cache/wave-0123/{number}.h5" for number in range(9)}
    assert "gave way to results" in str(result)
    assert not copying.has_room(drive / "cache/another", 1)  # nor for another one, today
    train(root, 2)
    assert push(root, only=("runs/Base-s0", "budget.csv")).safe
    assert epochs_on(drive) == (2, 2)


def test_everything_is_said_only_with_the_cache(root, drive, monkeypatch):
    """A large cache goes in packs, by another call."""
    monkeypatch.setattr(sync, "PACK_ABOVE", 100)
    for name in ("cache/wave-0123/a.h5", "cache/wave-0123/b.h5"):
        (root.path / name).parent.mkdir(parents=True, exist_ok=True)
        (root.path / name).write_bytes(bytes(200))
    assert str(push(root)) == "6 files copied"
    packs = {f"train-0{number}.zip": {"songs": {song: "digest"}} for number, song in enumerate("ab")}
    (drive / "cache/wave-0123").mkdir(parents=True)
    for count, said in ((1, "0 files copied"), (2, "0 files copied; everything is in the copy")):
        (drive / "cache/wave-0123/packs.json").write_text(json.dumps(dict(list(packs.items())[:count])))
        assert str(push(root)) == said


def test_room_is_reserved_before_a_cache_is_copied(root, drive, monkeypatch):
    (root.path / "cache/wave-0123").mkdir(parents=True)
    (root.path / "cache/wave-0123/a.h5").write_bytes(bytes(2000))
    monkeypatch.setattr(copying, "ROOM_FOR_RESULTS", 10**18)
    result = push(root)
    assert list(result.failed) == ["cache/wave-0123/a.h5"]
    assert "beside" in str(result)
    assert not (drive / "cache/wave-0123/a.h5").exists()


@pytest.mark.parametrize("code", [errno.ENOTCONN, errno.EIO], ids=["107", "5"])
def test_lost(root, drive, monkeypatch, code):
    push(root)
    train(root, 1, state="failed")
    with monkeypatch.context() as lost:
        on_drive(lost, drive, failing(code))
        for result in (push(root), pull(root)):
            assert f"the connection is lost, mount Drive again (errno {code})" in str(result)
        assert all("connection is lost" in text for text in begins(root))
        local_is_whole(root)
    assert push(root).safe
    assert content(drive) == content(root.path)


def test_one_file_that_fails(root, drive, monkeypatch, pauses):
    """Errno 5 for one file: it is tried again, and the others are copied."""
    copying_fails(monkeypatch, errno.EIO, lambda source: source.name == "best.ckpt")
    train(root, 1, run="F-s0")
    (root.path / "runs/F-s0/best.ckpt").unlink()
    result = push(root)
    assert list(result.failed) == ["runs/Base-s0/best.ckpt"]
    assert len(pauses) == copying.TRIES - 1
    assert (drive / "runs/F-s0/last.ckpt").exists()


def test_vanishes_on_the_way(root, drive, monkeypatch):
    real, calls = shutil.copyfile, []

    def unmounting(source, destination):
        calls.append(source)
        if len(calls) == 3:
            drive.parent.rename(drive.parents[2] / "gone")
        return real(source, destination)

    monkeypatch.setattr(copying.shutil, "copyfile", unmounting)
    result = push(root)
    assert "Drive is not mounted any more" in str(result)
    assert list(drive.parents[1].iterdir()) == []
    local_is_whole(root)


def test_zero_bytes(root, drive):
    push(root)
    for file in drive.rglob("*.ckpt"):
        file.write_bytes(b"")
    fresh = Root.open(root.path.with_name("fresh"))
    result = pull(fresh)
    assert "not whole on Drive yet" in str(result)
    assert not (fresh.path / "runs").exists() or not list(fresh.path.glob("runs/*/[!.]*"))
    assert push(root).safe  # what has not arrived is sent again
    assert pull(fresh).safe
    assert content(fresh.path) == content(root.path)


def test_zero_bytes_in_the_list_of_files_too(root, drive):
    """The record still knows what was pushed, also after a pull."""
    push(root)
    for file in drive.glob("runs/*/*"):
        file.write_bytes(b"")
    pull(root)
    assert push(root).safe
    assert content(drive) == content(root.path)


def test_only_what_is_new_counts_as_not_copied(root, drive):
    push(root)
    spend(root)
    new = train(root, 1, run="F-s0")
    drive.parent.rename(drive.parents[2] / "gone")
    assert {*push(root).failed} == {"budget.csv", *(f"runs/F-s0/{file.name}" for file in new.iterdir())}


def test_torsos(root, drive):
    push(root)
    run = drive / "runs/Base-s0"
    dead, other = run / ".last.ckpt.elsewhere.1.0.part", run / ".best.ckpt.elsewhere.1.0.part"
    for part in (dead, other):
        part.write_bytes(b"half")
    os.utime(dead, (0, 0))
    push(root)
    assert not dead.exists()
    assert other.exists()  # another runtime may be writing it


def mounts():
    """Why tmpfs can't be mounted here, or ""."""
    if sys.platform != "linux" or not shutil.which("unshare"):
        return "no mount namespaces on this machine"
    ran = subprocess.run(["unshare", "-m", "mount", "-t", "tmpfs", "t", "/mnt"], capture_output=True, check=False)
    return ran.stderr.decode().strip()


REAL = """
import os, subprocess, sys
from pathlib import Path
from sepkit.storage import Root, copying
from sepkit.storage.drive import pull, push
from tests.storage.sync_files import content, epochs_on, spend, train

copying.WAIT_S, here = 0.0, Path(sys.argv[1])


def mounted(size):
    mount, root = here / size / "mount", Root.open(here / size / "root")
    mount.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "drive", mount], check=True)
    (mount / "MyDrive").mkdir()
    os.environ |= {"SEPKIT_MOUNT": str(mount), "SEPKIT_DRIVE": str(mount / "MyDrive/sepkit-root")}
    train(root, 1)
    spend(root)
    return root, mount, mount / "MyDrive/sepkit-root"


root, mount, drive = mounted("64k")
(root.path / "runs/Base-s0/best.ckpt").write_bytes(bytes(10**6))
full = push(root)
assert list(full.failed) == ["runs/Base-s0/best.ckpt"] and "no room left" in str(full), full
assert epochs_on(drive) == (1, 1) and not list(drive.rglob(".*.part"))

root, mount, drive = mounted("1m")
assert push(root).safe
subprocess.run(["mount", "-o", "remount,ro", mount], check=True)
train(root, 2)
read_only, fresh = push(root), Root.open(here / "fresh")
assert "nothing can be written there (errno 30)" in str(read_only), read_only
assert pull(fresh).safe and epochs_on(fresh.path) == (1, 1)

subprocess.run(["umount", mount], check=True)
vanished = push(root)
assert "Drive is not mounted at" in str(vanished), vanished
assert list(mount.iterdir()) == []
"""


def test_real_mounts(tmp_path):
    if why := mounts():
        pytest.skip(f"tmpfs can't be mounted: {why}")
    command = ["unshare", "-m", sys.executable, "-c", REAL, str(tmp_path)]
    ran = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
