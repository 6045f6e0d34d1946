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
VARIABLES = ("SEPKIT_ROOT", "SEPKIT_DRIVE", "SEPKIT_REPOSITORY", "SEPKIT_HEADLESS", "TORCH_HOME")
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
    calls = []

    def mount(where, timeout_ms):
        calls.append((where, timeout_ms))
        (Path(where) / "MyDrive").mkdir(parents=True)

    drive = types.SimpleNamespace(mount=mount, calls=calls)
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
    mydrive = ds.CONTENT / "drive/MyDrive"
    mydrive.mkdir(parents=True)
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
    assert found.torch_home == found.root / "torch" and "SEPKIT_DRIVE" not in os.environ
    [note] = found.notes
    assert type(error).__name__ in note and "lost when it ends" in note and "\n" not in note
    assert note in capsys.readouterr().out


def test_a_lost_or_hanging_mount_is_no_drive(ds, monkeypatch, tmp_path):
    assert ds.free_bytes(tmp_path) > 0

    def lost(path):
        raise OSError(107, "Transport endpoint is not connected")

    monkeypatch.setattr(ds.shutil, "disk_usage", lost)
    assert ds.free_bytes(tmp_path) is None
    wake = threading.Event()

    def hang(path):
        wake.wait(30)
        raise OSError(107, "Transport endpoint is not connected")

    monkeypatch.setattr(ds.shutil, "disk_usage", hang)
    monkeypatch.setattr(ds, "PROBE_S", 0.1)
    others = set(threading.enumerate())
    assert ds.free_bytes(tmp_path) is None
    wake.set()
    for thread in set(threading.enumerate()) - others:
        thread.join()


def test_a_mount_that_only_reads_is_no_drive(ds, monkeypatch, tmp_path):
    def read_only(dir):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(ds.tempfile, "TemporaryFile", read_only)
    assert ds.free_bytes(tmp_path) is None


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
    project = make_project(ds.CONTENT / "drive/MyDrive/sepkit")
    monkeypatch.setattr(ds, "importable", lambda: None)
    monkeypatch.setattr(ds, "__file__", str(ds.CONTENT / "drive_setup.py"))
    monkeypatch.setattr(ds, "_run", lambda *given: pytest.fail("cloned"))
    found = ds.setup()
    assert found.project == project and sys.path[0] == str(project)


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


def test_the_project_is_cloned_where_it_is_nowhere(tmp_path, repository):
    """The second run finds the clone, whose own folder looks like a package from beside it."""
    for _ in range(2):
        out = run_bare(tmp_path, SEPKIT_REPOSITORY=repository)
        assert f"found {tmp_path / 'sepkit'}\n" in out
        assert f"imported {tmp_path / 'sepkit/sepkit/__init__.py'}" in out


def test_a_clone_that_fails_is_one_sentence(tmp_path):
    address = (tmp_path / "no-such.git").as_uri()
    [text] = run_bare(tmp_path, ok=False, SEPKIT_REPOSITORY=address).splitlines()
    assert text.startswith("refused sepkit is not here and was not cloned from " + address)
    assert f"put the project at {tmp_path / 'sepkit'}" in text and "Drive" in text


def test_a_check_clones_nothing(ds, monkeypatch):
    monkeypatch.setattr(ds, "importable", lambda: None)
    monkeypatch.setattr(ds, "__file__", str(ds.CONTENT / "drive_setup.py"))
    monkeypatch.setattr(ds, "_run", lambda *given: pytest.fail("cloned"))
    with pytest.raises(ds.SetupError) as error:
        ds.find_project(None, True)
    assert "--check clones nothing" in one_sentence(error) and ds.REPOSITORY in str(error.value)


def test_a_command_can_neither_ask_nor_run_for_ever_nor_be_absent(ds):
    code = "import os, sys; print(os.environ['GIT_TERMINAL_PROMPT'], repr(sys.stdin.read()))"
    assert ds._run([sys.executable, "-c", code], 30) == (True, ["0 ''"])
    ok, [line] = ds._run([sys.executable, "-c", "import time; time.sleep(30)"], 0.2)
    assert not ok and "timed out after 0.2 seconds" in line
    ok, [line] = ds._run(["no-such-program"], 5)
    assert not ok and "no-such-program" in line


# The notebooks' setup cell


def run_setup_cell(cwd, repository):
    """The first code cell of day 1 where nothing is installed, in a folder without the project."""
    day1 = json.loads((SOURCE.parent / "notebooks/day1_baseline.ipynb").read_text(encoding="utf-8"))
    environment = {"PATH": os.environ["PATH"], "HOME": str(cwd), "SEPKIT_REPOSITORY": repository}
    command = [sys.executable, "-I", "-S", "-c", "".join(day1["cells"][1]["source"])]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=60)


def test_the_setup_cell_clones_and_calls_setup(tmp_path, repository):
    ran = run_setup_cell(tmp_path, repository)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout == f"setup in {tmp_path / 'sepkit'}\n"


def test_the_setup_cell_gives_git_one_address_whatever_it_holds(tmp_path, repository):
    """Split by a shell, the words before the address would be options of git, and run a program."""
    (tmp_path / "run.sh").write_text(f"#!/bin/sh\ntouch {tmp_path / 'made'}\n")
    (tmp_path / "run.sh").chmod(0o755)
    ran = run_setup_cell(tmp_path, f"--upload-pack={tmp_path / 'run.sh'} {repository}")
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
    drive = ds.CONTENT / "drive/MyDrive"
    assert first == ds.Setup(project, ds.CONTENT / "sepkit-root", drive / "sepkit-root", drive / "sepkit/torch", (), ())
    assert os.environ["SEPKIT_ROOT"] == str(first.root)
    assert os.environ["SEPKIT_DRIVE"] == str(first.drive)
    assert os.environ["TORCH_HOME"] == str(first.torch_home)
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
    assert (found.root, found.drive, found.torch_home, found.notes) == (None, None, None, ())
    assert not any(name in os.environ for name in VARIABLES)


def test_a_root_and_a_drive_can_be_given(ds, project, tmp_path):
    (tmp_path / "synced").mkdir()
    found = ds.setup(root="runs", drive=tmp_path / "synced")
    assert found.root == tmp_path / "runs" and found.root.is_dir()
    assert found.drive == tmp_path / "synced/sepkit-root"
    assert found.torch_home == tmp_path / "synced/sepkit/torch"


def test_choices_of_a_person_stay_and_drive_takes_over_from_the_local_default(
    ds, project, colab, monkeypatch, tmp_path
):
    monkeypatch.setenv("SEPKIT_HEADLESS", "1")
    monkeypatch.setenv("SEPKIT_ROOT", str(tmp_path / "mine"))
    assert ds.setup().torch_home == tmp_path / "mine/torch"
    (ds.CONTENT / "drive/MyDrive").mkdir(parents=True)
    found = ds.setup()
    assert found.root == tmp_path / "mine"
    assert found.torch_home == ds.CONTENT / "drive/MyDrive/sepkit/torch"
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "weights"))
    assert ds.setup().torch_home == tmp_path / "weights"


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
