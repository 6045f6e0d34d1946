"""Short weeks on a Drive that fails in another way each day; no day ends early, and nothing is lost.

Each day is a process of its own: it opens with `begin`, trains and scores its experiment, and closes with `what_now`.
In that process calls below the Drive folder fail, at the audit events that Python raises before it asks the file system;
in the third week the faults are real ones, of mounts in a namespace of the day's own.  After each day the root and its
copy are compared file by file, and with the sentence about Drive.  At the end weights, epochs and scores are those of an
undisturbed week, in the root, and in a fresh one that has Drive alone.
"""

import ctypes
import errno
import multiprocessing
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from sepkit import notebook
from sepkit.evaluation.scoring import evaluate_many
from sepkit.experiments import BOUNDS
from sepkit.reporting import figures  # noqa: F401  imported once, for all days
from sepkit.reporting.report import report
from sepkit.storage import Root, copying, drive, runs, sync
from sepkit.storage.checkpoints import load_checkpoint
from sepkit.storage.root import SYNCED
from sepkit.training import fit  # noqa: F401
from sepkit.training.train import train
from tests.children import live
from tests.storage.test_drive_faults import mounts

pytestmark = [pytest.mark.long, pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")]
ROWS = (["Base"], ["C"], ["C2"], ["E"], ["B"], [], [])  # day 6 scores the references, day 7 reports
EVENTS = ("open", "os.mkdir", "os.rename", "os.remove", "os.scandir", "os.listdir", "os.utime", "os.link")
MIDDLE = 150  # calls on Drive before it fails in the middle of a day
LIMIT_S = 90.0  # for one day
EVERYTHING = "everything is in the copy"
CLONE_NEWNS = 0x20000


# a Drive that fails: each fault is set up in the day's process, and returns what happens once `begin` has returned


def watch(folder, see, events=EVENTS):
    """`see(path, writes)` is called before each call below `folder`; what it raises, the call raises."""

    def hook(event, arguments):
        if event in events and str(arguments[0]).startswith(str(folder)):
            see(
                Path(arguments[0]),
                event not in ("os.scandir", "os.listdir") and (event != "open" or bool(arguments[2] & 3)),
            )

    def watched(real):
        def look(path, *arguments, **options):
            if str(path).startswith(str(folder)):
                see(Path(path), False)
            return real(path, *arguments, **options)

        return look

    sys.addaudithook(hook)
    os.stat, os.lstat = watched(os.stat), watched(os.lstat)


def error(code, path):
    return OSError(code, os.strerror(code), str(path))


def healthy(week):
    pass


def not_mounted(week):
    week.my_drive.rename(week.place / "unmounted")


def mounted_late(week):
    not_mounted(week)
    return lambda: (week.place / "unmounted").rename(week.my_drive)


def read_only(week):
    def see(path, writes):
        if writes:
            raise error(errno.EROFS, path)

    watch(week.copy, see)


def full(code, room):
    """Without the caches `room` bytes are free."""

    def fault(week):
        def size(files):
            return sum(file.stat().st_size for file in files if file.is_file())

        quota, copyfile = size(week.copy.rglob("*")) - size(week.copy.glob("cache/*/*")) + room, shutil.copyfile

        def see(path, writes):
            if writes and size(week.copy.rglob("*")) >= quota:
                raise error(code, path)

        def limited(source, target):
            free = quota - size(week.copy.rglob("*"))
            if target.is_relative_to(week.copy) and source.stat().st_size > free:
                if free > 0:
                    target.write_bytes(source.read_bytes()[:free])  # what fitted
                raise error(code, target)
            return copyfile(source, target)

        shutil.copyfile = limited
        watch(week.copy, see, ("open", "os.mkdir"))

    return fault


def lost(code):
    def fault(week):
        calls = []

        def see(path, writes):
            calls.append(path)
            if len(calls) > MIDDLE:
                raise error(code, path)

        watch(week.my_drive, see)

    return fault


def hanging(after):
    def fault(week):
        copying.ANSWER_S = drive.LIST_S = sync.LIST_S = 1.0
        calls = []

        def see(path, writes):
            calls.append(path)
            if len(calls) > after:
                threading.Event().wait()

        watch(week.my_drive, see)

    return fault


def one_file(week):
    def see(path, writes):
        if writes and "best.ckpt" in path.name:
            raise error(errno.EIO, path)

    watch(week.copy, see)


def emptied(week):
    """Zero bytes in each file of each run on Drive; what they held."""
    held = {file: (file.read_bytes(), file.stat().st_mtime_ns) for file in week.copy.glob("runs/*/*")}
    fill(dict.fromkeys(held, (b"", time.time_ns())))
    return held


def fill(files):
    for file, (content, time_ns) in files.items():
        file.write_bytes(content)
        os.utime(file, ns=(time_ns, time_ns))


def late(week):
    held = emptied(week)
    return lambda: fill(held)


def zero_bytes(week):
    emptied(week)


def mounted(week, size="3g"):
    """A tmpfs that holds what Drive held yesterday."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "drive", week.mount], check=True)
    shutil.copytree(week.store, week.mount, dirs_exist_ok=True)


def really_read_only(week):
    mounted(week)
    subprocess.run(["mount", "-o", "remount,ro", week.mount], check=True)


def really_full(week):
    """4 KiB a file or folder, 40 kB free."""
    used = sum(-(-file.stat().st_size // 4096) * 4096 + 4096 for file in week.store.rglob("*"))
    mounted(week, used + 40_000)


def unmounted_in_the_middle(week):
    mounted(week)
    calls = []

    def see(path, writes):
        calls.append(path)
        if len(calls) == MIDDLE:
            week.keep()
            subprocess.run(["umount", "-l", week.mount], check=True)

    watch(week.copy, see)


@dataclass
class Fault:
    name: str
    set_up: object
    says: str  # pattern of what the day shows
    safe: bool = False  # everything is in the copy in the end
    fresh: bool = False  # the day is on a fresh root
    never: str = "mounted"  # pattern of what would be wrong


FINE = rf"{EVERYTHING}\."
NO_MOUNT = ": NOT safe: .*Drive is not mounted"
HEALTHY = Fault("none", healthy, FINE, safe=True)
WEEKS = {
    "first": [
        Fault("not mounted", not_mounted, NO_MOUNT, never="no room"),
        Fault("mounted late", mounted_late, FINE, safe=True, never="no room"),
        Fault("read-only", read_only, r"nothing can be written there \(errno 30\)"),
        Fault("full, 28", full(errno.ENOSPC, 0), r"there is no room left, delete something \(errno 28\)"),
        Fault("lost, 107", lost(errno.ENOTCONN), r"the connection is lost, mount Drive again \(errno 107\)", never="room"),
        Fault("hanging", hanging(0), "Drive does not answer", never="room"),
        HEALTHY,
    ],
    "second": [
        HEALTHY,
        Fault("zero-byte files, late", late, r"not whole on Drive yet|not there yet", safe=True, fresh=True),
        Fault("quota, 122", full(errno.EDQUOT, 300_000), "of caches on Drive gave way to results"),
        Fault("lost, 5", lost(errno.EIO), r"the connection is lost, mount Drive again \(errno 5\)", never="room"),
        Fault("one file fails, 5", one_file, r"best\.ckpt: the connection is lost.*\(errno 5\)"),
        Fault("hangs in the middle", hanging(MIDDLE), "Drive does not answer", never="room"),
        Fault("zero-byte files, for ever", zero_bytes, FINE, safe=True),
    ],
    "real mounts": [
        Fault("not mounted", healthy, NO_MOUNT, never="no room"),
        Fault("none", mounted, FINE, safe=True),
        Fault("full tmpfs", really_full, "gave way to results|there is no room left"),
        Fault("read-only", really_read_only, r"nothing can be written there \(errno 30\)"),
        Fault("unmounted in the middle", unmounted_in_the_middle, "Drive is not mounted", never="no room"),
        Fault("none", mounted, FINE, safe=True),
        Fault("none", mounted, FINE, safe=True, fresh=True),
    ],
}  # fmt: skip


class Week:
    """A root and its copy on Drive; `day` lives one day in a process of its own and checks what it left."""

    def __init__(self, place, songs, profile, *, real=False):
        self.place, self.songs, self.profile, self.real = place, songs, profile, real
        self.store, self.mount = place / "store", place / "content/drive"
        (self.store / "MyDrive").mkdir(parents=True)
        self.mount.mkdir(parents=True)
        self.my_drive = (self.mount if real else self.store) / "MyDrive"
        self.copy = self.my_drive / "sepkit-root"
        self.kept = self.store / "MyDrive/sepkit-root"  # the copy as this process sees it
        self.roots, self.lines = 0, []
        self.new_root()

    def new_root(self):
        self.roots += 1
        self.root = Root.open(self.place / f"root{self.roots}", "demo")

    def day(self, number, fault):
        if fault.fresh:
            self.new_root()
        for mark in self.kept.glob("cache/.no-room"):  # yesterday's
            os.utime(mark, (0, 0))
        started = time.monotonic()
        process = multiprocessing.get_context("fork").Process(target=self._live, args=(number, fault))
        process.start()
        process.join(LIMIT_S)
        took, text = time.monotonic() - started, (self.place / f"day{number}.txt").read_text()
        if process.is_alive():
            process.kill()
        assert process.exitcode == 0, f"{fault.name}:\n{text}"
        if (self.place / "unmounted").exists():
            (self.place / "unmounted").rename(self.my_drive)
        here, there = contents(self.root.path), contents(self.kept)
        missing = sorted(name for name in here if here[name] != there.get(name))
        said = re.findall(r"^Drive: .*$", text, re.M)[-1]  # the last line of `what_now`
        context = f"day {number}, {fault.name}, {missing}:\n{text}"
        assert not re.search(r"Traceback|OSError|Error: \[Errno", text), context
        assert re.search(fault.says, text), context
        assert not re.search(fault.never, text), context
        assert (EVERYTHING in said) == (not missing), context
        assert fault.safe == (not missing), context
        assert all(self.root.run(f"{name}-s0").finished for name in ROWS[number - 1])
        assert not list(self.mount.iterdir())  # what lies below the mount point stays empty
        count = re.search(r"NOT safe: (\d+) files", said)
        # a file that arrived in the instant in which the mount went is counted, too
        more = (int(count[1]) if count else 0) - len(missing)
        assert more == 0 or (more == 1 and fault.name.startswith("unmounted")), context
        told = said.replace(f"{self.place}/", "")
        self.lines.append(
            f"day {number}  {fault.name:26} {took:5.1f} s  {len(missing):2} files not in the copy  {told}"
        )

    def unlike(self):
        """Names of files that the root and the copy do not have alike."""
        here, there = contents(self.root.path), contents(self.kept)
        return sorted(name for name in {*here, *there} if here.get(name) != there.get(name))

    def _live(self, number, fault):
        live(self.place / f"day{number}.txt", lambda: self._day(number, fault))

    def _day(self, number, fault):
        os.environ["SEPKIT_DRIVE"] = str(self.copy)
        copying.WAIT_S = runs.WAIT_S = 0.01
        if self.real:
            os.environ["SEPKIT_MOUNT"] = str(self.mount)
            assert ctypes.CDLL(None).unshare(CLONE_NEWNS) == 0
            subprocess.run(["mount", "--make-rprivate", "/"], check=True)
        then = fault.set_up(self)
        rows = ROWS[number - 1]
        day = notebook.begin(
            number,
            rows,
            profile=self.profile,
            data=self.songs,
            root=self.root,
            pick=[name for row in ROWS for name in row],
        )
        if then:
            then()
        trained = [train(name, **day.where, device="cpu") for name in day.rows]
        if trained or number == 6:
            evaluate_many(trained or BOUNDS, **day.where, device="cpu", n_jobs=1)
        if number == 7:
            report(self.root, self.profile)
        print(notebook.what_now(day))
        if os.path.ismount(self.mount):
            self.keep()

    def keep(self):
        """Drive's content of today, for tomorrow's mount."""
        shutil.rmtree(self.store)
        shutil.copytree(self.mount, self.store)


def contents(folder):
    """{name: content} of the files that are synced."""
    files = {file for pattern in SYNCED for file in folder.glob(pattern) if file.is_file() and file.name[0] != "."}
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in files}


def outcome(root):
    """Weights, epochs and scores of the week."""
    found = {}
    for run in [f"{name}-s0" for row in ROWS for name in row]:
        kept = [load_checkpoint(root.run(run).path / name)["state_dict"] for name in ("best.ckpt", "last.ckpt")]
        found[f"{run}: weights"] = [{key: value.tolist() for key, value in weights.items()} for weights in kept]
        history = root.run(run).history()
        found[f"{run}: epochs"] = history[["epoch", "train_loss", "valid_loss", "valid_sdr", "learning_rate"]].to_csv()
    for run in [*(f"{name}-s0" for row in ROWS for name in row), *BOUNDS]:
        found[f"{run}: scores"] = (root.run(run).path / "scores.csv").read_text()
    return found


def unequal(one, other):
    return [key for key in one if one[key] != other.get(key)]


@pytest.fixture(scope="module")
def songs(make_mini, tmp_path_factory):
    return make_mini(tmp_path_factory.mktemp("week") / "songs", test=2, seconds=2.0)


@pytest.fixture(scope="module")
def profile(tiny):
    return replace(tiny, epochs=2)


@pytest.fixture(scope="module")
def undisturbed(songs, profile, tmp_path_factory):
    """What a week comes to on a Drive that works."""
    week = Week(tmp_path_factory.mktemp("undisturbed"), songs, profile)
    for number in range(1, 8):
        week.day(number, HEALTHY)
    print("", "undisturbed", *week.lines, sep="\n")
    return outcome(week.root)


@pytest.mark.parametrize("name", WEEKS)
def test_a_fault_each_day_loses_nothing(name, songs, profile, undisturbed, tmp_path):
    real = name == "real mounts"
    if real and (why := mounts()):
        pytest.skip(f"mounts are not allowed here: {why}")
    week = Week(tmp_path, songs, profile, real=real)
    try:
        for number, fault in enumerate(WEEKS[name], 1):
            week.day(number, fault)
    finally:
        print("", name, *week.lines, sep="\n")
    assert week.unlike() == []
    assert unequal(undisturbed, outcome(week.root)) == []
    week.new_root()
    fetched = drive.pull(week.root, week.kept)
    assert fetched.safe, str(fetched)
    assert week.unlike() == []
    assert unequal(undisturbed, outcome(week.root)) == []
    print(f"{len(contents(week.kept))} files in the copy; a fresh root from it equals an undisturbed week")
