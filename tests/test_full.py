"""The full profile rehearsed: six 4-minute songs under MUSDB's names, a few steps, all else as it is."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from sepkit.data.songs import musdb_validation_names

REHEARSAL = """
import json, resource, sys
from dataclasses import replace
import sepkit
from sepkit.profiles import PROFILES

data, root = sys.argv[1:]
full = replace(PROFILES["full"], steps_per_epoch=2, epochs=1)
report = sepkit.doctor(data, root=root)
where = {"profile": full, "data": data, "root": root}
run = sepkit.train("Base", **where)
for name in ("mixture", "oracle"):
    sepkit.reference(name, **where)
scores = sepkit.evaluate(run, data=data)
board = sepkit.scoreboard(root)
path = sepkit.report(root)
kinds = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
print(json.dumps({
    "splits": report.splits, "ok": report.ok, "config": run.config, "songs": sorted(set(scores["track"])),
    "undefined": int(scores["value"].isna().sum()), "rows": list(board["Exp"]), "report": str(path),
    "peak_mib": max(resource.getrusage(kind).ru_maxrss for kind in kinds) / 1024,
}))
"""


def write_long_song(folder: Path, seed: int, seconds: int = 240) -> None:
    """Noise that swells at another pace in each stem; the mixture is the exact sum."""
    rng = np.random.default_rng(seed)
    time = np.arange(seconds * 44100) / 44100
    stems = {}
    for number, name in enumerate(("vocals", "drums", "bass", "other")):
        swell = 0.02 * (1.05 + np.sin(2 * np.pi * time / (3 + number)))
        noise = rng.standard_normal((time.size, 2), dtype=np.float32)
        stems[name] = np.rint(noise * swell[:, None] * 32768).astype(np.int16)
    folder.mkdir(parents=True)
    for name, samples in {**stems, "mixture": sum(stems.values())}.items():
        sf.write(folder / f"{name}.wav", samples, 44100, subtype="PCM_16")


@pytest.mark.long
@pytest.mark.timeout(900)
def test_full_profile_on_six_long_songs(tmp_path):
    validation = sorted(musdb_validation_names())[:2]
    places = [("train", name) for name in ("A Classic Education - NightOwl", "AvaLuna - Waterduct", *validation)]
    places += [("test", name) for name in ("AM Contra - Heart Peripheral", "BKS - Too Much")]
    for seed, (subset, name) in enumerate(places):
        write_long_song(tmp_path / "songs" / subset / name, seed)
    command = [
        sys.executable,
        "-W",
        "error::SyntaxWarning",
        "-c",
        REHEARSAL,
        str(tmp_path / "songs"),
        str(tmp_path / "root"),
    ]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=850)
    assert answer.returncode == 0, answer.stderr[-2000:]
    found = json.loads(answer.stdout.splitlines()[-1])
    print(f"peak memory of a process: {found['peak_mib']:.0f} MiB")
    assert found["splits"] == {"train": 2, "valid": 2, "test": 2}
    assert found["ok"]
    assert found["config"]["model"] == {"name": "openunmix-small", "sample_rate": 44100, "levelled": "always"}
    training = found["config"]["training"]
    assert (training["segment_s"], training["batch_size"], training["learning_rate"]) == (6.0, 8, 3e-4)
    assert found["config"]["data"]["valid"] == validation
    assert len(found["songs"]) == 2
    assert found["rows"] == ["Base", "mixture", "oracle"]
    assert Path(found["report"]).stat().st_size > 50_000
    # a Colab runtime has 12.7 GB
    assert found["peak_mib"] < 6000
