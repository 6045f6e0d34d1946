"""Separated files: rate, length and level; what is refused; and that nothing else is replaced."""

import numpy as np
import pytest
import soundfile as sf

from sepkit.__main__ import main


@pytest.fixture
def separate(trained_root, capsys):
    """Runs `separate` with Base; (exit status, stdout, stderr)."""

    def call(*arguments):
        capsys.readouterr()
        status = main(["separate", *map(str, arguments), "--root", str(trained_root.path), "--device", "cpu"])
        return status, *capsys.readouterr()

    return call


@pytest.mark.parametrize(
    ("rate", "channels", "length"),
    [(44100, 2, 50001), (44100, 1, 12345), (48000, 2, 144000), (8000, 1, 999), (44100, 2, 1), (22050, 2, 313)],
)
def test_separated_files_keep_rate_and_length(separate, tmp_path, rate, channels, length):
    """S06, S07."""
    time = np.arange(length) / rate
    song = 0.3 * np.sin(2 * np.pi * 1000 * time)[:, None] * np.ones(channels)
    sf.write(tmp_path / "song.wav", song, rate, subtype="PCM_16")
    status, out, error = separate(tmp_path / "song.wav")
    assert (status, error) == (0, "")
    total = 0
    for source in ("vocals", "accompaniment"):
        audio, found_rate = sf.read(tmp_path / f"song.{source}.wav", always_2d=True)
        assert (found_rate, audio.shape) == (rate, (length, 2))
        total = total + audio
    np.testing.assert_allclose(total, song * np.ones(2), atol=2 / 32768)
    assert ("mono, taken as two equal channels" in out) == (channels == 1)
    assert (f"{rate} Hz, resampled to the model's 22050 Hz and back" in out) == (rate != 22050)
    assert sorted(file.name for file in tmp_path.iterdir()) == [
        "song.accompaniment.wav", "song.vocals.wav", "song.wav",
    ]  # fmt: skip


def test_a_tone_stays_where_it_is(separate, tmp_path):
    time = np.arange(144000) / 48000
    sf.write(tmp_path / "tone.wav", 0.3 * np.sin(2 * np.pi * 1000 * time), 48000)
    assert separate(tmp_path / "tone.wav", "--out", tmp_path / "out", "--run", "Base")[0] == 0
    stems = [sf.read(tmp_path / "out" / f"tone.{name}.wav")[0][:, 0] for name in ("vocals", "accompaniment")]
    for stem in stems:
        assert np.argmax(np.abs(np.fft.rfft(stem))) == 3000  # 1 kHz in 3 s


def test_files_that_can_not_be_separated_are_refused_before_any_work(separate, tmp_path):
    good = tmp_path / "a" / "song.wav"
    for file in (good, tmp_path / "b" / "song.flac"):
        file.parent.mkdir()
        sf.write(file, np.zeros((100, 2)), 44100)
    (tmp_path / "text.wav").write_text("no audio")
    sf.write(tmp_path / "none.wav", np.zeros((0, 2)), 44100)
    sf.write(tmp_path / "six.wav", np.zeros((100, 6)), 44100)
    cases = {
        tmp_path / "gone.wav": "There is no file",
        tmp_path: "There is no file",
        tmp_path / "text.wav": "is not audio that can be read here",
        tmp_path / "none.wav": "has 0 samples",
        tmp_path / "six.wav": "in 6 channels",
        tmp_path / "b" / "song.flac": "would both write",
    }
    for bad, words in cases.items():
        status, out, error = separate(good, bad, "--out", tmp_path / "out")
        assert (status, out) == (1, "")
        assert words in error
        assert str(bad) in error
    assert not (tmp_path / "out").exists()
    assert separate(good, good)[0] == 0  # the same file twice is one file
    status, _, error = separate(good, "--run", "C")
    assert status == 1
    assert "C-s0 has no best.ckpt yet" in error


@pytest.fixture
def song(tmp_path):
    """A second of noise as song.wav."""
    noise = np.random.default_rng(0).normal(0, 0.1, (22050, 2))
    sf.write(tmp_path / "song.wav", noise, 22050)
    return tmp_path / "song.wav"


def test_a_result_never_replaces_an_input_or_a_file_that_sepkit_did_not_make(separate, song, tmp_path):
    """`separate song.wav song.vocals.wav` overwrote its second input before it read it."""
    true = tmp_path / "song.vocals.wav"
    sf.write(true, np.zeros((22050, 2)), 22050)
    before = true.read_bytes()
    cases = {
        (song, true): f"would write {true}, which is a file to separate; give another --out",
        (song, true, "--overwrite"): "which is a file to separate",
        (song,): f"would replace {true}, which sepkit did not make; give another --out, or --overwrite",
    }
    for call, words in cases.items():
        status, out, error = separate(*call)
        assert (status, out) == (1, "")
        assert words in error
        assert true.read_bytes() == before
        assert sorted(file.name for file in tmp_path.iterdir()) == ["song.vocals.wav", "song.wav"]
    status, out, _ = separate(song, "--overwrite")
    assert status == 0
    assert "replaced song.vocals.wav, not made by sepkit" in out
    assert true.read_bytes() != before


def test_results_of_sepkit_are_replaced_and_a_line_says_whose_they_were(separate, song, tmp_path):
    assert "replaced" not in separate(song)[1]
    assert "replaced song.vocals.wav, made by sepkit with Base-s0" in separate(song)[1]
    (tmp_path / "song.vocals.wav").write_text("no audio")
    assert separate(song)[0] == 1
    (tmp_path / "link.wav").symlink_to(tmp_path / "song.vocals.wav")
    assert separate(tmp_path / "link.wav")[0] == 1


def test_the_link_to_an_input_is_that_input(separate, song, tmp_path):
    (tmp_path / "song.vocals.wav").symlink_to(song)
    before = song.read_bytes()
    status, _, error = separate(song, "--overwrite")
    assert status == 1
    assert "which is a file to separate" in error
    assert song.read_bytes() == before
