"""Progress in JupyterLab: a bar while it runs, and no trace of its widget in the saved notebook."""

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

WORK = """
import time
from sepkit.parallel import progress
for _ in progress(range(80), doing="score Base-s0", total=80):
    time.sleep(0.05)
"""
KERNEL = {"name": "python3", "display_name": "Python 3", "language": "python"}


@pytest.mark.long
def test_a_bar_moves_in_jupyterlab_and_the_saved_notebook_holds_one_line(lab, lab_server, tmp_path):
    nbformat.write(new_notebook(cells=[new_code_cell(WORK)], metadata={"kernelspec": KERNEL}), tmp_path / "bar.ipynb")
    page = lab(tmp_path / "bar.ipynb", run=False)
    page.evaluate("jupyterapp.shell.currentWidget.sessionContext.ready")
    page.evaluate("() => { window.ran = jupyterapp.commands.execute('notebook:run-all-cells') }")
    page.get_by_text("/80 [").wait_for()
    page.evaluate("ran")
    page.evaluate("jupyterapp.commands.execute('docmanager:save')")
    saved = nbformat.read(lab_server[1] / "bar.ipynb", as_version=4)
    assert "widget" not in str(saved)
    text = "".join(
        output.get("text", output.get("data", {}).get("text/plain", "")) for output in saved.cells[0].outputs
    )
    assert text.startswith("score Base-s0: 80 done in ") and text.count("\n") == 1
