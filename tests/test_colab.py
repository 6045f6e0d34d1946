"""Days in Colab, each on a fresh runtime of which only Drive is left: set-up, Drive's copy and the notebooks together.

/content is a temporary folder, and its Drive counts as mounted while it holds a file; tests/test_drive_setup.py has the
set-up alone, and how Drive fails.
"""

import os
import shutil
from pathlib import Path

import nbformat
import papermill
import pytest

from sepkit.commands.week import DAYS
from sepkit.data.demo.songs import make_demo_songs
from sepkit.storage import Root

HERE = Path(__file__).parents[1]
SHORT = """
import os
from dataclasses import replace
from pathlib import Path
from sepkit.profiles import PROFILES

PROFILES["demo"] = replace(PROFILES["demo"], epochs=4, steps_per_epoch=5)
ismount = os.path.ismount
os.path.ismount = lambda path: ismount(path) or (Path(path) / "mounted").exists()
"""
pytestmark = [pytest.mark.long, pytest.mark.timeout(1200)]


@pytest.fixture
def runtime(tmp_path, monkeypatch):
    """Gives a fresh runtime with its Drive mounted: an empty /content, no variables but Colab's."""
    cloud, content = tmp_path / "cloud", tmp_path / "content"
    project = cloud / "sepkit"
    project.mkdir(parents=True)
    for name in ("sepkit", "notebooks"):
        shutil.copytree(HERE / name, project / name, ignore=shutil.ignore_patterns("__pycache__"))
    setup = (HERE / "drive_setup.py").read_text(encoding="utf-8")
    assert 'CONTENT = Path("/content")' in setup
    setup = setup.replace('CONTENT = Path("/content")', f'CONTENT = Path("{content}")')
    (project / "drive_setup.py").write_text(setup, encoding="utf-8")
    shutil.copy(HERE / "requirements.txt", project)
    (tmp_path / "short").mkdir()
    (tmp_path / "short/sitecustomize.py").write_text(SHORT)
    songs = make_demo_songs(tmp_path / "songs", train=6, valid=2, test=8, duration_s=(4.0, 5.0))

    def start():
        for name in [name for name in os.environ if name.startswith(("SEPKIT_", "COLAB_"))]:
            monkeypatch.delenv(name)
        monkeypatch.setenv("COLAB_RELEASE_TAG", "release-colab")
        monkeypatch.setenv("SEPKIT_DATA", str(songs))
        monkeypatch.setenv(
            "PYTHONPATH", os.pathsep.join([str(tmp_path / "short"), str(content / "drive/MyDrive/sepkit")])
        )
        shutil.rmtree(content, ignore_errors=True)
        (content / "drive").mkdir(parents=True)
        (content / "drive/mounted").touch()
        (content / "drive/MyDrive").symlink_to(cloud)
        return content

    return start


def run(day, content):
    """What the cells of a day printed, run in /content."""
    done = content / f"{day}.ipynb"
    papermill.execute_notebook(HERE / "notebooks" / f"{day}.ipynb", done, kernel_name="python3", cwd=content)
    outputs = [output for cell in nbformat.read(done, as_version=4).cells for output in cell.get("outputs", [])]
    return "\n".join(each.get("text", "") for each in outputs)


def test_the_last_day_goes_on_from_drive_alone(runtime, tmp_path):
    content = runtime()
    first = run(DAYS[0], content)
    assert f"SEPKIT_DRIVE={content / 'drive/MyDrive/sepkit-root'}" in first
    assert "all in place, nothing to install" in first
    assert "Base-s0 all epochs done: 4 epochs" in first
    before = Root(content / "sepkit-root/demo")
    ledger = before.budget()
    assert before.run("Base-s0").finished
    scores = before.run("Base-s0").scores_path.read_bytes()

    content = runtime()
    last = run(DAYS[6], content)
    after = Root(content / "sepkit-root/demo")
    known = set(after.budget()["id"])
    assert "epochs, best" not in last  # nothing is trained again
    assert after.run("Base-s0").scores_path.read_bytes() == scores
    assert (after.path / "report/milestone2.html").is_file()
    assert set(ledger["id"]) <= known  # every minute of the first runtime
    # no compiled modules on Drive, and no local folder beside it
    assert list((tmp_path / "cloud").rglob("*.pyc")) == []
    assert {path.name for path in (content / "drive").iterdir()} == {"mounted", "MyDrive"}
