"""Headers against what is there: whole, cut short, without a length."""

import shutil
import struct
import subprocess

import numpy as np
import pytest
import soundfile as sf

from sepkit.data.sound import Sound
from sepkit.errors import SepkitError

RATE, SECONDS = 8000, 6
NOISE = np.random.default_rng(0).normal(0, 0.1, (SECONDS * RATE, 2))
FORMATS = [
    ("wav", "PCM_16"), ("wav", "PCM_24"), ("wav", "FLOAT"), ("flac", "PCM_16"), ("flac", "PCM_24"), ("aiff", "PCM_16"),
    ("w64", "PCM_16"), ("rf64", "PCM_16"), ("au", "PCM_16"),
]  # fmt: skip


def write(path, subtype="PCM_16"):
    sf.write(path, NOISE, RATE, subtype=subtype, format=path.suffix[1:].upper())
    return path


def read(path):
    with Sound(path) as song:
        return np.concatenate(list(song.blocks(1.0)), axis=1).T


@pytest.mark.parametrize(("ending", "subtype"), FORMATS)
def test_a_file_cut_short_is_refused_with_the_place(tmp_path, ending, subtype):
    """S62: libsndfile reads what is left of a WAV file without a word, and of a FLAC file with an error code."""
    path = write(tmp_path / f"song.{ending}", subtype)
    np.testing.assert_array_equal(read(path), sf.read(path, dtype="float32")[0])
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(
        SepkitError, match=r"song\.\w+ is cut short( or damaged at|: its header promises|: its)"
    ) as caught:
        read(path)
    said = float(str(caught.value).split(" s; copy")[0].split(" s (")[0].split()[-1])
    assert said == pytest.approx(3.0, abs=0.6)  # a block of FLAC is 0.5 s here


@pytest.mark.parametrize("length", [0, 0xFFFFFFFF, 0xFFFFFFFF - 36, 0x7FFFFFFF, 0x7FFFF000])
@pytest.mark.parametrize("riff", [0, 36, 0xFFFFFFFF])
@pytest.mark.parametrize("subtype", ["PCM_16", "FLOAT"])
def test_a_wav_file_without_a_length_is_read_to_its_end(tmp_path, length, riff, subtype):
    """S64: as ffmpeg, sox, or a recorder that was killed leave it."""
    path = write(tmp_path / "song.wav", subtype)
    whole, content = read(path), bytearray(path.read_bytes())
    place = content.find(b"data") + 4
    content[place : place + 4], content[4:8] = struct.pack("<I", length), struct.pack("<I", riff)
    path.write_bytes(content)
    np.testing.assert_array_equal(read(path), whole)


def test_a_flac_file_without_a_length_is_read_to_its_end(tmp_path):
    path = write(tmp_path / "song.flac")
    whole, content = read(path), bytearray(path.read_bytes())
    content[21] &= 0xF0  # STREAMINFO's 36 bits of samples
    content[22:26] = bytes(4)
    path.write_bytes(content)
    np.testing.assert_array_equal(read(path), whole)


def test_a_wav_file_that_is_really_empty_is_refused(tmp_path):
    sf.write(tmp_path / "none.wav", np.zeros((0, 2)), RATE)
    with pytest.raises(SepkitError, match="has 0 samples in 2 channels"):
        Sound(tmp_path / "none.wav")


@pytest.mark.skipif(not shutil.which("ffmpeg"), reason="needs ffmpeg")
@pytest.mark.parametrize(("options", "whole"), [((), True), (("-write_xing", "0"), False)])
def test_an_mp3_file_is_read_whole_or_not_at_all(tmp_path, options, whole):
    """Without a length in its header libsndfile guesses one from the first frame, and stops there."""
    quiet = np.concatenate([0.5 * NOISE, 0.001 * NOISE, NOISE, NOISE])
    sf.write(tmp_path / "song.wav", quiet, 44100)
    call = ["ffmpeg", "-v", "error", "-i", tmp_path / "song.wav", "-q:a", "4", *options, tmp_path / "song.mp3"]
    subprocess.run(call, check=True)
    if whole:
        assert read(tmp_path / "song.mp3").shape == quiet.shape
        return
    with pytest.raises(
        SepkitError, match=r"song\.mp3 goes on for \d+ bytes after the \d\.\d\d s that can be read here"
    ):
        read(tmp_path / "song.mp3")
