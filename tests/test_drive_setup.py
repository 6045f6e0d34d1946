"""drive_setup with simulated runtimes: Colab, its Drive, a person, pip, clones.

Nothing is downloaded or installed: /content is a temporary folder, pip is a fake or can't succeed, and the
searches for the project run in an interpreter without site-packages.
"""

import importlib.util
import json
import os
import subprocess
import sys
import threading
import types
import zipfile
from pathlib import Path

import pytest
from jupyter_client.manager import start_new_kernel

SOURCE = Path(__file__).resolve().parents[1] / "drive_setup.py"
VARIABLES = (
    "SEPKIT_ROOT", "SEPKIT_DATA", "SEPKIT_DRIVE", "SEPKIT_MOUNT", "SEPKIT_HEADLESS", "TORCH_HOME",
    "PYTHONPYCACHEPREFIX",
)  # fmt: skip
COLAB = ("COLAB_RELEASE_TAG", "COLAB_GPU")
INSTALLED = {"torch": "2.11.0+cu128", "numpy": "2.1.3", "tqdm": "4.67.3", "pyyaml": "6.0.3"}


@pytest.fixture
def ds(monkeypatch, tmp_path):
    """The module, freshly loaded, in its own folder."""
    spec = importlib.util.spec_from_file_location("drive_setup_under_test", SOURCE)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)  # dataclasses look up their module
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "CONTENT", tmp_path / "content")
    monkeypatch.setattr(module, "PROBE_S", 5)
    for name in (*VARIABLES, *COLAB, "JPY_SESSION_NAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "environ", os.environ.copy())  # undone after the test
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "pycache_prefix", None)
    (tmp_path / "content").mkdir()
    monkeypatch.chdir(tmp_path)
    return module


@pytest.fixture
def project(ds, monkeypatch, tmp_path):
    """An importable project in a runtime with a few packages."""
    folder = make_project(tmp_path / "project", "numpy>=2.0  # arrays\n")
    monkeypatch.setattr(ds, "importable", lambda: folder)
    monkeypatch.setattr(ds, "versions", lambda: dict(INSTALLED))
    monkeypatch.setattr(ds, "check_loaded", lambda have: None)
    return folder


def make_project(folder, requirements=""):
    (folder / "sepkit").mkdir(parents=True)
    (folder / "sepkit/__init__.py").write_text("")
    (folder / "requirements.txt").write_text(requirements)
    return folder


@pytest.fixture
def colab(ds, monkeypatch):
    """A Colab runtime; `mount` creates the Drive and records its calls."""
    calls, mounts = [], set()

    def come(where=ds.CONTENT / "drive"):
        (Path(where) / "MyDrive").mkdir(parents=True, exist_ok=True)
        mounts.add(str(where))
        return Path(where) / "MyDrive"

    def mount(where, timeout_ms):
        calls.append((where, timeout_ms))
        come(where)

    drive = types.SimpleNamespace(mount=mount, calls=calls, come=come, go=mounts.clear)
    monkeypatch.setattr(os.path, "ismount", lambda path: str(path) in mounts)
    monkeypatch.setitem(sys.modules, "google.colab.drive", drive)
    monkeypatch.setenv("COLAB_RELEASE_TAG", "release-colab")
    return drive


def someone(monkeypatch, allow_stdin):
    """An IPython kernel whose front end answers questions, or not."""
    shell = types.SimpleNamespace(kernel=types.SimpleNamespace(_allow_stdin=allow_stdin))
    monkeypatch.setitem(sys.modules, "IPython", types.SimpleNamespace(get_ipython=lambda: shell))


def one_sentence(error):
    """The text of an error, which must be one line."""
    text = str(error.value)
    assert "\n" not in text and "Traceback" not in text
    return text


# Colab, Drive, and whether a person is there


def test_colab_is_seen_by_its_variables_or_its_package(ds, monkeypatch):
    monkeypatch.setitem(sys.modules, "google", None)
    assert not ds.in_colab()
    for name in COLAB:
        monkeypatch.setenv(name, "")  # COLAB_GPU is set, though empty, where there is no GPU
        assert ds.in_colab()
        monkeypatch.delenv(name)
    google, package = types.ModuleType("google"), types.ModuleType("google.colab")
    google.__path__ = []
    package.__spec__ = importlib.util.spec_from_loader("google.colab", loader=None)
    monkeypatch.setitem(sys.modules, "google", google)
    monkeypatch.setitem(sys.modules, "google.colab", package)
    assert ds.in_colab()


def test_nothing_is_imported_that_setup_looks_after():
    code = "import sys, drive_setup as d; print([n for n in d.PINNED.split() if n in sys.modules])"
    ran = subprocess.run([sys.executable, "-c", code], cwd=SOURCE.parent, capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"


def test_an_existing_mount_is_used_without_asking(ds, colab, monkeypatch):
    someone(monkeypatch, allow_stdin=True)
    mydrive = colab.come()
    notes = []
    assert ds.find_drive(None, False, notes) == mydrive
    assert colab.calls == [] and notes == []
    assert list(mydrive.iterdir()) == []  # the trial write leaves nothing


@pytest.mark.parametrize("check", [False, True])
def test_a_person_is_asked_to_mount_and_a_check_never_asks(ds, colab, monkeypatch, check):
    someone(monkeypatch, allow_stdin=True)
    notes = []
    found = ds.find_drive(None, check, notes)
    if check:
        assert found is None and colab.calls == [] and len(notes) == 1
    else:
        assert found == ds.CONTENT / "drive/MyDrive" and notes == []
        assert colab.calls == [(str(ds.CONTENT / "drive"), 120_000)]


@pytest.mark.parametrize("headless", ["no kernel", "papermill", "asked to be"])
def test_headless_never_mounts_and_says_what_is_not_safe(ds, colab, monkeypatch, headless):
    if headless == "no kernel":
        monkeypatch.setitem(sys.modules, "IPython", types.SimpleNamespace(get_ipython=lambda: None))
    else:
        someone(monkeypatch, allow_stdin=headless == "asked to be")
        monkeypatch.setenv("SEPKIT_HEADLESS", "1" if headless == "asked to be" else "0")
    notes = []
    assert ds.find_drive(None, False, notes) is None
    assert colab.calls == []
    assert len(notes) == 1 and "not mounted" in notes[0] and "lost when it ends" in notes[0]


def test_a_real_kernel_knows_whether_its_front_end_answers():
    """ipykernel's flag is not public: this test fails when it changes."""
    manager, client = start_new_kernel(kernel_name="python3")
    code = f"import sys; sys.path.insert(0, {str(SOURCE.parent)!r}); import drive_setup\n"
    code += "assert drive_setup.person_present() is {}"
    try:
        for answers in (True, False):  # JupyterLab and Colab; papermill, nbclient and nbval
            reply = client.execute_interactive(
                code.format(answers), allow_stdin=answers, output_hook=lambda message: None
            )
            assert reply["content"]["status"] == "ok", reply["content"]
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


@pytest.mark.parametrize("error", [ValueError("mount failed\nat once"), TimeoutError()])
def test_a_mount_that_fails_leaves_a_local_folder(ds, project, colab, monkeypatch, capsys, error):
    def refuse(where, timeout_ms):
        raise error

    someone(monkeypatch, allow_stdin=True)
    monkeypatch.setattr(colab, "mount", refuse)
    found = ds.setup()
    assert found.drive is None and found.root == ds.CONTENT / "sepkit-root" and found.root.is_dir()
    assert "SEPKIT_DRIVE" not in os.environ
    [note] = found.notes
    assert type(error).__name__ in note and "lost when it ends" in note and "\n" not in note
    assert note in capsys.readouterr().out


def lose(monkeypatch, folder, code=107):
    """Makes every access to the folder fail, as a FUSE mount whose process has died does."""
    for owner in (os, Path):
        for name in ("stat", "lstat"):
            real = getattr(owner, name)

            def lost(path, *given, _real=real, **options):
                if str(path).startswith(str(folder)):
                    raise OSError(code, os.strerror(code), str(path))
                return _real(path, *given, **options)

            monkeypatch.setattr(owner, name, lost)


@pytest.mark.parametrize("code", [107, 5])
def test_a_lost_mount_is_no_drive_and_one_sentence(ds, project, colab, monkeypatch, code):
    colab.come()
    lose(monkeypatch, ds.CONTENT / "drive", code)
    found = ds.setup()
    assert found.drive is None and found.root == ds.CONTENT / "sepkit-root"
    [note] = found.notes
    assert f"does not answer ({os.strerror(code)})" in note and "run this cell again" in note


def test_a_hanging_mount_is_no_drive(ds, project, colab, monkeypatch):
    colab.come()
    wake, real = threading.Event(), Path.lstat
    monkeypatch.setattr(Path, "lstat", lambda path: wake.wait(30) if path.name == "drive" else real(path))
    monkeypatch.setattr(ds, "PROBE_S", 0.1)
    others = set(threading.enumerate())
    assert "Drive does not answer (it hangs)" in ds.setup().notes[0]
    wake.set()
    for thread in set(threading.enumerate()) - others:
        thread.join()


@pytest.mark.parametrize("code", [30, 28, 122])
def test_a_drive_that_only_reads_gives_back_what_it_holds(ds, project, colab, monkeypatch, code):
    mydrive = colab.come()

    def refuse(dir):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(ds.tempfile, "TemporaryFile", refuse)
    found = ds.setup()
    assert found.drive == mydrive / "sepkit-root"
    [note] = found.notes
    assert f"can't be written to ({os.strerror(code)})" in note and "not mounted" not in note


def test_a_local_folder_is_not_drive(ds, project, colab, monkeypatch):
    """Whatever made it: Colab would refuse to mount Drive over it, so it must go."""
    someone(monkeypatch, allow_stdin=False)
    (ds.CONTENT / "drive/MyDrive/sepkit").mkdir(parents=True)
    found = ds.setup()
    assert found.drive is None and "SEPKIT_MOUNT" not in os.environ
    assert f"{ds.CONTENT / 'drive'} holds local files: move them away" in found.notes[0]
    someone(monkeypatch, allow_stdin=True)
    assert "move them away" in ds.setup().notes[0] and colab.calls == []  # Colab would ask, and then refuse


def test_a_mount_that_never_returns_holds_nothing_up_and_may_come_late(ds, project, colab, monkeypatch):
    someone(monkeypatch, allow_stdin=True)
    wake, calls = threading.Event(), []

    def mount(where, timeout_ms):
        calls.append(where)
        wake.wait(30)

    monkeypatch.setattr(colab, "mount", mount)
    monkeypatch.setattr(ds, "MOUNT_S", 0.05)
    assert "is not mounted (TimeoutError)" in ds.setup().notes[0]
    assert "an earlier call has not come back" in ds.setup().notes[0]  # a second one would kill the first
    mydrive = colab.come()
    assert ds.setup().drive == mydrive / "sepkit-root"
    assert len(calls) == 1
    wake.set()


def test_a_lost_drive_is_mounted_again_in_the_same_runtime(ds, project, colab, monkeypatch):
    someone(monkeypatch, allow_stdin=False)
    colab.come()
    first = ds.setup()
    colab.go()
    assert "is not mounted" in ds.setup().notes[0]
    assert os.environ["SEPKIT_DRIVE"] == str(first.drive)  # with SEPKIT_MOUNT, storage sees that it is gone
    someone(monkeypatch, allow_stdin=True)
    (ds.CONTENT / "drive/MyDrive").rmdir()
    assert ds.setup() == first and len(colab.calls) == 1


def test_a_drive_that_was_named_must_be_there(ds, tmp_path):
    with pytest.raises(ds.SetupError) as error:
        ds.setup(drive=tmp_path / "nowhere")
    assert "nowhere is not a folder that can be written to" in one_sentence(error)


# Packages


@pytest.mark.parametrize(("older", "newer"), [("2.9.1", "2.10"), ("1.26", "2.0.0"), ("0.4", "0.4.3"), ("9", "10+cu1")])
def test_versions_are_compared_as_numbers(ds, older, newer):
    assert ds.release(older) < ds.release(newer)


def test_versions_are_read_from_metadata_under_normal_names(ds, monkeypatch, tmp_path):
    for folder, version in (("first", "2.0"), ("second", "1.0")):
        info = tmp_path / folder / f"Some_Pack.age-{version}.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Name: Some_Pack.age\nVersion: {version}\n")
    monkeypatch.setattr(sys, "path", [str(tmp_path / "first"), str(tmp_path / "second")])
    assert ds.versions() == {"some-pack-age": "2.0"}  # as an import would, the first on the path


def test_only_missing_and_old_packages_are_named(ds, tmp_path):
    file = tmp_path / "requirements.txt"
    file.write_text(
        "# lower bounds\n\nnumpy>=2.0  # arrays\ntorch >= 2.9\nTQDM>=4.70# bars\n"
        "PyYAML>=6.0.0\nmusdb>=0.4.3    # songs\njinja2\n"
    )
    assert ds.missing_packages(file, INSTALLED) == ["TQDM>=4.70", "musdb>=0.4.3", "jinja2"]


@pytest.mark.parametrize("line", ["numpy==2.0", "numpy<3", "-r other.txt", "git+https://x/y"])
def test_another_kind_of_requirement_is_refused(ds, tmp_path, line):
    (tmp_path / "requirements.txt").write_text(line)
    with pytest.raises(ds.SetupError) as error:
        ds.missing_packages(tmp_path / "requirements.txt", INSTALLED)
    assert "name>=version" in one_sentence(error)


def test_a_pinned_package_that_is_too_old_is_left_to_a_person(ds, tmp_path):
    (tmp_path / "requirements.txt").write_text("numpy>=2.2")
    with pytest.raises(ds.SetupError) as error:
        ds.missing_packages(tmp_path / "requirements.txt", INSTALLED)
    text = one_sentence(error)
    assert 'pip install "numpy>=2.2"' in text and "2.1.3" in text and ds.RESTART in text


def fake_pip(ds, monkeypatch, ok=True, output=(), after=None):
    """Replaces pip; the returned list records each command with its constraints."""
    calls = []

    def run(command, timeout_s):
        calls.append((command, Path(command[command.index("-c") + 1]).read_text().split()))
        return ok, list(output)

    monkeypatch.setattr(ds, "_run", run)
    monkeypatch.setattr(ds, "versions", lambda: dict(after or {}) if calls else dict(INSTALLED))
    return calls


def test_pip_gets_what_is_missing_and_may_not_move_the_rest(ds, project, monkeypatch):
    (project / "requirements.txt").write_text("numpy>=2.0\nmusdb>=0.4.3\ntqdm>=4.66\n")
    calls = fake_pip(ds, monkeypatch, after={**INSTALLED, "musdb": "0.4.3"})
    assert ds.setup().installed == ("musdb>=0.4.3",)
    [(command, constraints)] = calls
    assert command[:4] == [sys.executable, "-m", "pip", "install"]
    assert [part for part in command if ">=" in part] == ["musdb>=0.4.3"]
    assert "--upgrade" not in command and "--force-reinstall" not in command
    assert constraints == ["torch==2.11.0+cu128", "numpy==2.1.3"]


def test_no_pip_where_nothing_is_missing(ds, project, monkeypatch):
    calls = fake_pip(ds, monkeypatch)
    assert ds.setup().installed == () and calls == []


def test_missing_packages_can_be_left(ds, project, monkeypatch):
    (project / "requirements.txt").write_text("musdb>=0.4.3\n")
    calls = fake_pip(ds, monkeypatch)
    found = ds.setup(install=False)
    assert calls == [] and found.installed == () and "musdb>=0.4.3" in found.notes[0]


@pytest.mark.parametrize(("name", "stops"), [("numpy", True), ("tqdm", True), ("somebodys-package", False)])
def test_pip_that_replaced_what_is_in_use_stops_the_run(ds, monkeypatch, name, stops):
    monkeypatch.setitem(sys.modules, "tqdm", types.ModuleType("tqdm"))
    before = {**INSTALLED, "somebodys-package": "1.0"}
    fake_pip(ds, monkeypatch, after={**before, name: "99.0"})
    if not stops:
        ds.pip_install(["musdb"], before)
        return
    with pytest.raises(ds.SetupError) as error:
        ds.pip_install(["musdb"], before)
    text = one_sentence(error)
    assert f"{name} {before[name]} -> 99.0" in text and text.endswith(ds.RESTART)


def test_a_real_conflict_is_one_sentence_with_pips_own_words(ds, monkeypatch, tmp_path):
    """A wheel that wants numpy<1 beside the installed numpy; without an index, pip can only fail."""
    info = "needy-1.0.dist-info"
    with zipfile.ZipFile(tmp_path / "needy-1.0-py3-none-any.whl", "w") as wheel:
        head = "Metadata-Version: 2.1\nName: needy\nVersion: 1.0\n"
        wheel.writestr(f"{info}/METADATA", head + "Requires-Dist: numpy<1\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    have = ds.versions()
    with pytest.raises(ds.SetupError) as error:
        ds.pip_install(["needy>=1.0"], have)
    text = one_sentence(error)
    assert "needy>=1.0" in text and "beside this runtime's own versions" in text
    assert "ResolutionImpossible" in text
    assert ds.versions() == have


def test_a_loaded_module_of_another_version_stops_the_run(ds, monkeypatch):
    monkeypatch.setitem(sys.modules, "numpy", types.SimpleNamespace(__version__="2.1.3"))
    ds.check_loaded({"numpy": "2.1.3"})
    with pytest.raises(ds.SetupError) as error:
        ds.check_loaded({"numpy": "2.4.0"})
    assert one_sentence(error) == ("numpy 2.1.3 is loaded and 2.4.0 is installed: restart the runtime, then run all")


def test_setup_stops_before_anything_else(ds, monkeypatch):
    monkeypatch.setitem(sys.modules, "IPython", types.SimpleNamespace(__version__="7.34.0"))
    monkeypatch.setattr(ds, "versions", lambda: {"ipython": "9.0.0"})
    monkeypatch.setattr(ds, "find_project", lambda *given: pytest.fail("went on"))
    with pytest.raises(ds.SetupError, match="restart the runtime, then run all"):
        ds.setup()


def test_a_local_build_is_no_other_version(ds, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", types.SimpleNamespace(__version__="2.11.0+cu130"))
    ds.check_loaded({"torch": "2.11.0"})
    with pytest.raises(ds.SetupError):
        ds.check_loaded({"torch": "2.11.1"})


@pytest.mark.parametrize(
    ("torch", "torchaudio", "pair"),
    [
        ("2.11.0+cu128", "2.11.0+cu128", None),
        ("2.14.1", "2.11.0", None),  # from 2.9 on, a later torch is fine
        ("2.8.0", "2.8.0", None),
        ("2.11.0", "2.12.0", '"torchaudio>=2.9,<=2.11.99"'),
        ("2.11.0", "2.8.0", '"torchaudio>=2.9,<=2.11.99"'),
        ("2.8.0", "2.7.1", "torchaudio==2.8.*"),
        ("2.11.0+cpu", "2.11.0+cu128", "torchaudio==2.11.0 --index-url"),
        ("2.11.0+cu126", "2.11.0+cu128", "https://download.pytorch.org/whl/cu126"),
        ("2.11.0+cu128", "2.11.0+cpu", None),
    ],
)
def test_torch_and_torchaudio_that_do_not_fit_are_named(ds, torch, torchaudio, pair):
    note = ds.torch_note({"torch": torch, "torchaudio": torchaudio})
    if pair is None:
        assert note is None
    else:
        assert pair in note and torch in note and torchaudio in note and ds.RESTART in note


def test_a_misfit_is_a_note_and_torchaudio_stays_unimported(ds, project, monkeypatch, capsys):
    monkeypatch.setattr(ds, "versions", lambda: {**INSTALLED, "torchaudio": "2.12.0"})
    monkeypatch.delitem(sys.modules, "torchaudio", raising=False)
    [note] = ds.setup().notes
    assert note.startswith("torchaudio 2.12.0 does not fit torch 2.11.0+cu128")
    assert note in capsys.readouterr().out and "torchaudio" not in sys.modules


# The project


def run_bare(cwd, ok=True, **variables):
    """Output of setup() without any package installed, then `found FOLDER`."""
    code = "import sys; from pathlib import Path; source = Path(sys.argv[1]).read_text()\n"
    code += "exec(compile(source, sys.argv[1], 'exec'))\n"  # no __file__, as fetched by a notebook
    code += "sys.path.insert(0, '')\n"
    code += "try: print('found', setup().project)\n"
    code += "except SetupError as error: sys.exit(f'refused {error}')\n"
    code += "import sepkit; print('imported', sepkit.__file__)"
    keep = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    ran = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code, str(SOURCE)],
        cwd=cwd,
        env={**keep, **variables},
        capture_output=True,
        text=True,
    )
    assert (ran.returncode == 0) is ok, ran.stderr
    return ran.stdout if ok else ran.stderr


@pytest.mark.parametrize("inside", [".", "notebooks", "notebooks/deeper"])
def test_the_project_is_found_here_or_above(tmp_path, inside):
    project = make_project(tmp_path / "project")
    (project / "notebooks/deeper").mkdir(parents=True)
    out = run_bare(project / inside)
    assert f"found {project}\n" in out and f"imported {project / 'sepkit/__init__.py'}" in out


def test_the_project_is_found_above_the_open_notebook(tmp_path):
    project = make_project(tmp_path / "project")
    (tmp_path / "elsewhere").mkdir()
    notebook = project / "notebooks/day1_baseline.ipynb"
    assert f"found {project}\n" in run_bare(tmp_path / "elsewhere", JPY_SESSION_NAME=str(notebook))


def test_the_project_is_found_on_drive(ds, colab, monkeypatch):
    project = make_project(colab.come() / "sepkit")
    monkeypatch.setattr(ds, "importable", lambda: None)
    monkeypatch.setattr(ds, "__file__", str(ds.CONTENT / "drive_setup.py"))
    found = ds.setup()
    assert found.project == project and sys.path[0] == str(project)
    assert sys.pycache_prefix == os.environ["PYTHONPYCACHEPREFIX"]  # compiled modules stay on the local disk
    assert project not in Path(sys.pycache_prefix).parents


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    """A bare repository that holds a project."""
    folder = tmp_path_factory.mktemp("remote")
    work = make_project(folder / "work")
    (work / "drive_setup.py").write_text(
        "from pathlib import Path\ndef setup(): print('setup in', Path(__file__).parent)\n"
    )
    for command in (
        ["init", "--quiet"],
        ["add", "."],
        ["-c", "user.name=a", "-c", "user.email=a@b.c", "commit", "--quiet", "-m", "a"],
        ["clone", "--quiet", "--bare", ".", str(folder / "sepkit.git")],
    ):
        subprocess.run(["git", *command], cwd=work, check=True, capture_output=True)
    return (folder / "sepkit.git").as_uri()


def test_a_project_that_is_nowhere_is_one_sentence(tmp_path):
    [text] = run_bare(tmp_path, ok=False).splitlines()
    assert text.startswith(f"refused sepkit is not here: copy it to {tmp_path / 'sepkit'}") and "Drive" in text


@pytest.mark.parametrize("lacks", ["package", "index"])
def test_a_project_whose_copy_broke_off_is_named(tmp_path, lacks):
    torn = make_project(tmp_path / "sepkit")
    (torn / "drive_setup.py").touch()
    if lacks == "package":
        (torn / "sepkit/__init__.py").unlink()
    else:  # git writes it when all files are there
        (torn / ".git").mkdir()
        (torn / ".git/HEAD").touch()
    [text] = run_bare(tmp_path, ok=False).splitlines()
    assert text == f"refused {torn} lacks files, since its copy or clone broke off: delete it, and copy it again"


def test_a_command_can_neither_ask_nor_run_for_ever_nor_be_absent(ds):
    assert ds._run([sys.executable, "-c", "import sys; print(repr(sys.stdin.read()))"], 30) == (True, ["''"])
    ok, [line] = ds._run([sys.executable, "-c", "import time; time.sleep(30)"], 0.2)
    assert not ok and "timed out after 0.2 seconds" in line
    ok, [line] = ds._run(["no-such-program"], 5)
    assert not ok and "no-such-program" in line


# The notebooks' setup cell


def run_setup_cell(cwd, runs=1, wait_s=30, between="", **variables):
    """The first code cell of day 1 where nothing is installed, its /content being `cwd`; `runs` times in one kernel."""
    day1 = json.loads((SOURCE.parent / "notebooks/day1_baseline.ipynb").read_text(encoding="utf-8"))
    cell = "".join(day1["cells"][1]["source"])
    for old, new in (("/content", str(cwd)), ("/tmp/sepkit", str(cwd / "local")), ("(True, 300)", f"(True, {wait_s})")):
        assert old in cell
        cell = cell.replace(old, new)
    code = f"import sys; sys.path[:0] = ['', {str(cwd / 'colab')!r}]\n"
    code += f"for _ in range({runs}):\n    exec({cell!r}, {{'__name__': '__main__'}})\n    {between}"
    environment = {"PATH": os.environ["PATH"], "HOME": str(cwd), **variables}
    command = [sys.executable, "-I", "-S", "-c", code]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=60)


@pytest.fixture
def fake_colab(tmp_path, repository):
    """A google.colab in `tmp_path`/colab whose `mount` runs the given code; MyDrive holds the project then."""

    def install(mount):
        package = tmp_path / "colab/google/colab"
        package.mkdir(parents=True)
        (package / "drive.py").write_text(f"import shutil, time\ndef mount(where):\n    {mount}\n")

    subprocess.run(["git", "clone", "--quiet", repository, str(tmp_path / "uploaded")], check=True)
    return install


def test_the_setup_cell_clones_and_calls_setup(tmp_path, repository):
    ran = run_setup_cell(tmp_path, SEPKIT_REPOSITORY=repository)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout == f"setup in {tmp_path / 'sepkit'}\n"


def test_every_run_of_the_setup_cell_calls_setup(tmp_path, repository):
    """Of an importable project too: a student who declined Drive mounts it, and runs the cell again."""
    ran = run_setup_cell(tmp_path, runs=3, SEPKIT_REPOSITORY=repository)
    assert ran.stdout.count("setup in") == 3, ran.stderr


def test_the_project_on_drive_goes_before_a_clone_though_the_cell_itself_mounts_drive(tmp_path, repository, fake_colab):
    fake_colab("shutil.copytree('uploaded', f'{where}/MyDrive/sepkit')")
    ran = run_setup_cell(tmp_path, runs=2, SEPKIT_REPOSITORY=repository, COLAB_RELEASE_TAG="release")
    mydrive = tmp_path / "drive/MyDrive/sepkit"
    assert ran.stdout == f"setup in {mydrive}\n" * 2, ran.stderr
    assert not (tmp_path / "sepkit").exists()
    assert list(mydrive.rglob("*.pyc")) == []  # compiled modules would be files on Drive


@pytest.mark.parametrize("mount", ["raise ValueError('mount failed')", "time.sleep(1000)", "pass"])
def test_the_setup_cell_without_a_drive_is_one_sentence(tmp_path, fake_colab, mount):
    """Declined, hanging, or another Drive; and nobody's name is asked for a project."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/git").write_text(f"#!/bin/sh\ntouch {tmp_path / 'asked'}\n")
    (tmp_path / "bin/git").chmod(0o755)
    fake_colab(mount)
    ran = run_setup_cell(tmp_path, wait_s=1, COLAB_RELEASE_TAG="release", PATH=str(tmp_path / "bin"))
    assert ran.returncode == 1
    sentence = "RuntimeError: no sepkit: copy its folder to MyDrive/sepkit, mount Drive, run this cell again"
    assert ran.stderr.splitlines()[-1] == sentence and "Traceback" not in ran.stdout
    assert ("mount failed" in ran.stdout) is ("failed" in mount)
    assert not (tmp_path / "asked").exists()


def test_a_drive_that_is_lost_with_the_imported_project_is_one_sentence(tmp_path, fake_colab):
    fake_colab("shutil.move('uploaded', f'{where}/MyDrive/sepkit')")
    lose = "import shutil, sepkit; shutil.rmtree('drive')"
    ran = run_setup_cell(tmp_path, runs=2, between=lose, COLAB_RELEASE_TAG="release")
    assert ran.stdout.startswith(f"setup in {tmp_path / 'drive/MyDrive/sepkit'}\n"), ran.stderr
    assert ran.stderr.splitlines()[-1].startswith("RuntimeError: no sepkit: copy its folder to MyDrive")


def test_a_clone_that_broke_off_is_named_and_never_taken_for_the_project(tmp_path, repository):
    (tmp_path / "sepkit.part").mkdir()
    ran = run_setup_cell(tmp_path, SEPKIT_REPOSITORY=repository)
    assert "delete sepkit.part, a clone that broke off" in ran.stderr.splitlines()[-1]
    (tmp_path / "sepkit.part").rename(tmp_path / "sepkit")
    ran = run_setup_cell(tmp_path, SEPKIT_REPOSITORY=repository)
    assert "delete sepkit, a clone that broke off" in ran.stderr.splitlines()[-1]
    (tmp_path / "sepkit").rmdir()
    assert run_setup_cell(tmp_path, SEPKIT_REPOSITORY=repository).returncode == 0


def test_git_never_asks(tmp_path):
    """Neither on the terminal, nor in a window, nor ssh about a key."""
    (tmp_path / "bin").mkdir()
    script = "#!/bin/sh\necho $GIT_TERMINAL_PROMPT $GIT_ASKPASS $GIT_SSH_COMMAND; cat; exit 1\n"
    (tmp_path / "bin/git").write_text(script)
    (tmp_path / "bin/git").chmod(0o755)
    path = f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}"
    ran = run_setup_cell(tmp_path, SEPKIT_REPOSITORY="https://example.org/private.git", PATH=path)
    assert ran.stdout == "0 true ssh -oBatchMode=yes\n"
    assert ran.stderr.splitlines()[-1].startswith("RuntimeError: no sepkit")


def test_the_setup_cell_gives_git_one_address_whatever_it_holds(tmp_path, repository):
    """Split by a shell, the words before the address would be options of git, and run a program."""
    (tmp_path / "run.sh").write_text(f"#!/bin/sh\ntouch {tmp_path / 'made'}\n")
    (tmp_path / "run.sh").chmod(0o755)
    ran = run_setup_cell(tmp_path, SEPKIT_REPOSITORY=f"--upload-pack={tmp_path / 'run.sh'} {repository}")
    assert ran.returncode == 1
    assert ran.stderr.splitlines()[-1].startswith("RuntimeError: no sepkit: copy its folder to MyDrive/sepkit")
    assert [path.name for path in tmp_path.iterdir()] == ["run.sh"]


def test_an_empty_namespace_is_not_the_project(ds, monkeypatch):
    monkeypatch.setitem(sys.modules, "sepkit", types.ModuleType("sepkit"))
    sys.modules["sepkit"].__file__ = None
    monkeypatch.setattr(ds.importlib.util, "find_spec", lambda name: None)
    assert ds.importable() is None and "sepkit" not in sys.modules


# The call as a whole


def test_colab_with_drive_sets_its_folders_and_a_second_run_changes_nothing(ds, project, colab, monkeypatch, capsys):
    someone(monkeypatch, allow_stdin=True)
    first = ds.setup()
    root, drive = ds.CONTENT / "sepkit-root", ds.CONTENT / "drive/MyDrive"
    assert first == ds.Setup(project, root, drive / "sepkit-root", (), ())
    assert os.environ["SEPKIT_MOUNT"] == str(ds.CONTENT / "drive")
    assert os.environ["SEPKIT_ROOT"] == str(first.root)
    assert os.environ["SEPKIT_DRIVE"] == str(first.drive)
    capsys.readouterr()
    state = dict(os.environ), list(sys.path), sorted(ds.CONTENT.rglob("*"))
    assert ds.setup() == first
    assert (dict(os.environ), list(sys.path), sorted(ds.CONTENT.rglob("*"))) == state
    assert len(colab.calls) == 1
    [line] = capsys.readouterr().out.splitlines()
    assert "all in place, nothing to install" in line and line.count("GiB free in") == 2


def test_a_plain_machine_keeps_its_own_places(ds, project, monkeypatch):
    monkeypatch.setattr(ds, "in_colab", lambda: False)
    found = ds.setup()
    assert (found.root, found.drive, found.notes) == (None, None, ())
    assert not any(name in os.environ for name in VARIABLES)


def test_a_root_and_a_drive_can_be_given(ds, project, tmp_path):
    (tmp_path / "synced").mkdir()
    found = ds.setup(root="runs", drive=tmp_path / "synced")
    assert found.root == tmp_path / "runs" and found.root.is_dir()
    assert found.drive == tmp_path / "synced/sepkit-root"
    assert "SEPKIT_MOUNT" not in os.environ


def test_choices_of_a_person_stay(ds, project, colab, monkeypatch, tmp_path):
    someone(monkeypatch, allow_stdin=True)
    for name in ("SEPKIT_ROOT", "SEPKIT_DRIVE", "TORCH_HOME"):
        monkeypatch.setenv(name, str(tmp_path / name))
    found = ds.setup()
    assert (found.root, found.drive) == (tmp_path / "SEPKIT_ROOT", tmp_path / "SEPKIT_DRIVE")
    assert os.environ["TORCH_HOME"] == str(tmp_path / "TORCH_HOME")
    assert colab.calls == [] and found.notes == () and "SEPKIT_MOUNT" not in os.environ


def test_a_root_on_a_drive_that_is_not_mounted_is_not_made(ds, project, colab, monkeypatch):
    monkeypatch.setenv("SEPKIT_ROOT", str(ds.CONTENT / "drive/MyDrive/roots"))
    with pytest.raises(ds.SetupError) as error:
        ds.setup()
    assert "which is not mounted" in one_sentence(error)
    assert not (ds.CONTENT / "drive").exists()
    colab.come()
    assert ds.setup().root.is_dir()


def test_an_earlier_copy_on_drive_is_named(ds, project, colab):
    """Where one folder held the runs of all profiles."""
    (colab.come() / "sepkit-root/runs").mkdir(parents=True)
    [note] = ds.setup().notes
    assert "move its content to" in note and "sepkit-root/<profile>" in note


def test_a_chosen_folder_on_drive_counts_only_while_drive_is_mounted(ds, project, colab, monkeypatch):
    someone(monkeypatch, allow_stdin=False)
    chosen = ds.CONTENT / "drive/MyDrive/mine"
    monkeypatch.setenv("SEPKIT_DRIVE", str(chosen))
    monkeypatch.setenv("TORCH_HOME", str(chosen / "torch"))
    assert "is not mounted" in ds.setup().notes[0]
    assert os.environ["SEPKIT_DRIVE"] == str(chosen) and os.environ["SEPKIT_MOUNT"] == str(ds.CONTENT / "drive")
    assert "TORCH_HOME" not in os.environ  # torch would make it and all above it: a local MyDrive
    colab.come()
    assert ds.setup().drive == chosen and ds.setup().notes == ()


def test_setup_after_mounting_finds_drive(ds, project, colab, monkeypatch):
    """A student who declined mounts Drive later, and runs the cell again."""
    assert ds.setup().drive is None
    mydrive = colab.come()
    assert ds.setup().drive == mydrive / "sepkit-root" and ds.setup().notes == ()


def test_relative_places_are_made_whole(ds, project, monkeypatch, tmp_path):
    """S74: a notebook runs in its own folder; its shell, whose folder PWD is, ran elsewhere."""
    shell = tmp_path / "shell"
    shell.mkdir()
    (tmp_path / "songs").mkdir()
    monkeypatch.setenv("PWD", str(shell))
    monkeypatch.setenv("SEPKIT_ROOT", "results")
    monkeypatch.setenv("SEPKIT_DATA", "songs")  # lies here
    assert ds.setup().root == shell / "results"
    assert os.environ["SEPKIT_ROOT"] == str(shell / "results") and os.environ["SEPKIT_DATA"] == str(tmp_path / "songs")


def test_the_exit_status_says_how_it_went(ds, project, monkeypatch, tmp_path, capsys):
    assert ds.main([]) == 0
    assert ds.main(["--check", "--root", str(tmp_path / "later")]) == 0
    assert not (tmp_path / "later").exists()
    (project / "requirements.txt").write_text("musdb>=0.4.3\n")
    calls = fake_pip(ds, monkeypatch)
    capsys.readouterr()
    assert ds.main(["--check"]) == 1
    [line] = capsys.readouterr().err.splitlines()
    assert "missing or too old: musdb>=0.4.3" in line and calls == []
    (tmp_path / "file").write_text("")
    assert ds.main(["--no-install", "--root", str(tmp_path / "file")]) == 1
    [line] = capsys.readouterr().err.splitlines()
    assert str(tmp_path / "file") in line
    with pytest.raises(SystemExit) as stop:
        ds.main(["--rot", "x"])
    assert stop.value.code == 2
