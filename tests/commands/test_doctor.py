"""What doctor finds, in words and as JSON in a fixed form."""

import json

import numpy as np
import pytest
import soundfile as sf

import sepkit
from sepkit.__main__ import main
from sepkit.commands.doctor import doctor
from sepkit.storage.root import VERSIONED

PROBLEM = {"track", "file", "kind", "expected", "found", "fix", "blocking"}
ENVIRONMENT = {"python", "device", "precision", "cores", "root", "free_disk_gb", "drive", "ffmpeg", "versions"}


def refuse(word):
    raise ValueError(f"{word} is not JSON")


def as_json(capsys, *arguments):
    """(exit status, what `doctor --json` printed, read strictly)."""
    status = main(["doctor", "--json", *map(str, arguments)])
    return status, json.loads(capsys.readouterr().out, parse_constant=refuse)


def kinds(report):
    return {problem.kind: problem for problem in report.problems}


def test_the_json_has_the_contracts_form(mini_songs, tmp_path, capsys):
    status, found = as_json(capsys, "--data", mini_songs, "--root", tmp_path)
    assert status == 0
    assert list(found) == ["ok", "layout", "splits", "hours", "problems", "environment"]
    assert (found["ok"], found["layout"], found["splits"]) == (True, "wav", {"train": 2, "valid": 1, "test": 1})
    assert found["hours"] == pytest.approx(4 * 3 / 3600, abs=1e-4)
    assert all(set(problem) == PROBLEM for problem in found["problems"])
    assert set(found["environment"]) == ENVIRONMENT
    assert set(found["environment"]["versions"]) == set(VERSIONED)
    again = doctor(mini_songs, root=tmp_path, n_jobs=1).to_dict()
    for report in (found, again):
        report["environment"].pop("free_disk_gb")  # others write to the disk meanwhile
    assert found == again


def test_the_environment_alone_without_songs(tmp_path, monkeypatch, capsys):
    report = sepkit.doctor(root=tmp_path / "later")
    assert report.ok
    assert report.layout is None
    assert "songs: not checked" in str(report)
    assert not (tmp_path / "later").exists()
    environment = report.environment
    assert environment["root"] == str(tmp_path / "later")
    assert environment["free_disk_gb"] > 0
    assert environment["drive"] is None
    assert environment["versions"]["torch"].startswith("2.")
    monkeypatch.setenv("SEPKIT_DRIVE", str(tmp_path))
    assert doctor(root=tmp_path).environment["drive"] == str(tmp_path)


def test_a_set_that_is_not_musdb_is_said_loudly(make_mini, tmp_path, capsys):
    """S02: 3 songs, not 150, of 1 s each."""
    songs = make_mini(tmp_path / "songs", train=1, valid=1, test=1, seconds=1.0, musdb_names=True)
    report = doctor(songs, root=tmp_path / "root", n_jobs=1)
    count = kinds(report)["song count"]
    assert (count.found, count.blocking) == ("3", False)
    assert "150" in count.expected
    assert kinds(report)["short clips"].found.startswith("clips of 1.0 s")
    assert "song count: expected 150 songs (MUSDB18-HQ has 100 + 50), found 3" in str(report)
    assert "1 train, 1 valid, 1 test" in str(report)


@pytest.mark.parametrize("which", ["absent", "empty", "train itself", "a file"])
def test_a_folder_without_songs_is_not_ok(which, mini_songs, tmp_path, capsys):
    """S01."""
    places = {"absent": tmp_path / "no", "empty": tmp_path, "train itself": mini_songs / "train"}
    place = places.get(which, mini_songs / "validation.txt")
    status, found = as_json(capsys, "--data", place, "--root", tmp_path / "root")
    assert (status, found["ok"], found["layout"]) == (1, False, None)
    assert found["splits"] == {"train": 0, "valid": 0, "test": 0}
    (problem,) = [problem for problem in found["problems"] if problem["blocking"]]
    assert problem["kind"] == "no songs"
    assert str(place) in problem["found"]
    assert main(["doctor", "--data", str(place), "--root", str(tmp_path / "root")]) == 1
    assert "not ok: see the lines that begin with BLOCKS" in capsys.readouterr().out


@pytest.fixture
def songs(make_mini, tmp_path):
    return make_mini(tmp_path / "songs", train=1, seconds=1.0)


@pytest.mark.parametrize(("noise_db", "found"), [(-60, False), (-20, True)])
def test_a_mixture_that_is_not_the_sum_is_a_problem(songs, tmp_path, noise_db, found):
    """S09."""
    file = songs / "test" / "T0 - Test" / "mixture.wav"
    mixture, rate = sf.read(file)
    noise = np.random.default_rng(0).standard_normal(mixture.shape)
    noise *= np.sqrt(np.mean(mixture**2)) * 10 ** (noise_db / 20)
    sf.write(file, mixture + noise, rate, subtype="PCM_16")
    report = doctor(songs, root=tmp_path / "root", n_jobs=1)
    assert report.ok
    assert ("residual" in kinds(report)) == found
    if found:
        problem = kinds(report)["residual"]
        assert (problem.track, problem.file, problem.blocking) == ("T0 - Test", "mixture.wav", False)
        assert problem.found == "-20.0 dB"


def test_a_missing_stem_blocks_until_the_song_is_excluded(songs, tmp_path):
    """S03, S10."""
    (songs / "test" / "T0 - Test" / "bass.wav").unlink()
    report = doctor(songs, root=tmp_path, n_jobs=1)
    problem = kinds(report)["missing stem"]
    assert not report.ok
    assert (problem.track, problem.file, problem.blocking) == ("T0 - Test", "bass.wav", True)
    assert "BLOCKS: T0 - Test: bass.wav: missing stem" in str(report)
    (tmp_path / "exclude.txt").write_text("T0 - Test\n")
    report = doctor(songs, root=tmp_path, n_jobs=1)
    assert report.ok
    assert report.splits["test"] == 0
    assert not kinds(report)["no test songs"].blocking


def test_a_package_that_is_absent_blocks(tmp_path, monkeypatch):
    from importlib import metadata

    version = metadata.version

    def without_h5py(name):
        if name == "h5py":
            raise metadata.PackageNotFoundError(name)
        return version(name)

    monkeypatch.setattr(metadata, "version", without_h5py)
    report = doctor(root=tmp_path)
    assert not report.ok
    assert kinds(report)["missing package"].expected == "h5py"
    assert report.environment["versions"]["h5py"] == "absent"


@pytest.mark.parametrize("given", [True, False])
def test_songs_of_a_cache_are_enough(root, tmp_path, given):
    report = doctor(tmp_path / "gone" if given else None, root=root)
    assert report.ok
    assert (report.layout, report.splits) == ("wav", {"train": 2, "valid": 1, "test": 1})
    assert report.hours == pytest.approx(4 * 3 / 3600)
    (note,) = report.problems
    assert (note.kind, note.blocking) == ("songs from the cache", False)
    assert note.found == "4 songs; train, valid, test whole"
    (root.path / "exclude.txt").write_text("A0 - Train # bleed\nA0 - Trian")
    report = doctor(root=root)
    assert report.splits == {"train": 1, "valid": 1, "test": 1}
    assert "the closest song is 'A0 - Train' in train/" in kinds(report)["unknown name"].fix
    (file,) = root.path.glob("cache/*/T0 - Test.h5")
    file.write_bytes(file.read_bytes()[:1000])
    report = doctor(root=root)
    assert not report.ok
    assert (kinds(report)["damaged"].track, kinds(report)["damaged"].file) == ("T0 - Test", "T0 - Test.h5")
    assert "BLOCKS: T0 - Test: T0 - Test.h5: damaged: expected what was written" in str(report)


def test_the_fix_for_a_folder_without_songs_is_the_one_that_works(make_song, tmp_path, capsys):
    make_song(tmp_path / "songs" / "deeper" / "train" / "A - One", seconds=0.2)
    _, found = as_json(capsys, "--data", tmp_path / "songs", "--root", tmp_path / "root")
    (problem,) = [problem for problem in found["problems"] if problem["blocking"]]
    assert problem["fix"] == f"the songs seem to lie one level deeper: give {tmp_path}/songs/deeper"
