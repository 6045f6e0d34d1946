"""An export: loaded by its own ten lines in a new process it separates as its run does."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import sepkit
from sepkit.__main__ import main
from sepkit.errors import SepkitError
from sepkit.storage.checkpoints import load_model

HERE = Path(__file__).parents[2]
USE = """
import runpy, sys
import numpy, torch
model = runpy.run_path(sys.argv[1])["model"]
with torch.inference_mode():
    numpy.save(sys.argv[2], model(torch.from_numpy(numpy.load(sys.argv[3])))[0].numpy())
"""


def test_an_export_separates_as_its_run_does(trained_root, tmp_path, capsys):
    assert main(["export", "Base", str(tmp_path / "out"), "--root", str(trained_root.path)]) == 0
    out = tmp_path / "out"
    assert {file.name for file in out.iterdir()} == {"README.md", "config.json", "load.py", "model.safetensors"}
    mixture = np.random.default_rng(0).normal(0, 0.1, (1, 2, 22050)).astype(np.float32)
    np.save(tmp_path / "mixture.npy", mixture)
    call = [sys.executable, "-c", USE, out / "load.py", tmp_path / "estimate.npy", tmp_path / "mixture.npy"]
    subprocess.run(call, check=True, env={**os.environ, "PYTHONPATH": str(HERE)})
    model = load_model(trained_root.run_of("Base"))
    with torch.inference_mode():
        expected = model(torch.from_numpy(mixture))[0].numpy()
    assert np.allclose(np.load(tmp_path / "estimate.npy"), expected, atol=1e-6)
    assert load_file(out / "model.safetensors").keys() == model.state_dict().keys()
    assert json.loads((out / "config.json").read_text())["experiment"] == "Base"
    assert str(sepkit.export("Base", out, root=trained_root)) == str(out)  # over its own files


def test_the_card_tells_songs_scores_and_licence(trained_root, tmp_path):
    card = (sepkit.export("Base", tmp_path / "out", root=trained_root) / "README.md").read_text()
    assert card.startswith("# Base-s0\n") and "Licence of the songs" in card
    run = trained_root.run_of("Base")
    if run.scored:
        assert "sdr_bsseval" in card
    else:
        assert "Not scored on test songs." in card
    assert f"trained on {len(run.config['data']['train'])}" in card


def test_nothing_is_written_over_other_files_or_of_an_unfinished_run(trained_root, tmp_path, capsys):
    (tmp_path / "notes.txt").write_text("mine")
    call = ["export", "Base", str(tmp_path), "--root", str(trained_root.path)]
    assert main(call) == 1
    assert f"but {tmp_path} holds other files; give another." in capsys.readouterr().err
    assert [file.name for file in tmp_path.iterdir()] == ["notes.txt"]
    assert main(["export", "C", str(tmp_path / "new"), "--root", str(trained_root.path)]) == 1
    assert "C-s0" in capsys.readouterr().err and not (tmp_path / "new").exists()
    with pytest.raises(SepkitError, match="nothing-s0"):
        sepkit.export("nothing-s0", tmp_path / "new", root=trained_root)
