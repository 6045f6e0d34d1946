"""Players: decoded levels, what stays in a headless page, what is refused."""

import base64
import io
import re

import numpy as np
import pytest
import soundfile

from sepkit.dsp import loudest_s
from sepkit.errors import SepkitError
from sepkit.reporting.player import as_clip, player

RATE = 44100


def decoded(page: str) -> list[tuple[np.ndarray, int]]:
    """The clips of a page, (time, channel) and Hz, as a browser would decode them."""
    sounds = re.findall(r'<audio controls[^>]* src="data:audio/\w+;base64,([^"]+)"', page)
    return [soundfile.read(io.BytesIO(base64.b64decode(sound)), always_2d=True) for sound in sounds]


def rms(samples: np.ndarray) -> float:
    return float(np.sqrt((samples**2).mean()))


@pytest.fixture
def music() -> np.ndarray:
    """Five seconds of stereo: decaying tones over noise, peak 1."""
    time = np.arange(5 * RATE) / RATE
    tones = sum(np.sin(2 * np.pi * 110 * k * time) / k for k in range(1, 30)) * np.exp(-5 * (time % 0.5))
    both = np.stack([tones, np.roll(tones, 200)]) + 0.05 * np.random.default_rng(0).standard_normal((2, len(time)))
    return both / np.abs(both).max()


def test_level_ratio_of_100_survives_decoding(music):
    page = player({"loud": 0.5 * music, "quiet": 0.005 * music}, RATE).data
    (loud, _), (quiet, _) = decoded(page)
    assert rms(loud) / rms(quiet) == pytest.approx(100, rel=0.01)
    assert rms(loud) == pytest.approx(rms(0.5 * music), rel=0.01)
    assert np.abs(loud).max() / np.abs(quiet).max() == pytest.approx(100, rel=0.07)


def test_ratio_survives_across_two_players_and_for_a_sine():
    sine = 0.5 * np.sin(2 * np.pi * 440 * np.arange(2 * RATE) / RATE)
    levels = [rms(decoded(player({"clip": gain * sine}, RATE).data)[0][0]) for gain in (1, 0.01)]
    assert levels[0] / levels[1] == pytest.approx(100, rel=0.01)


def test_one_common_gain_is_printed_and_prevents_clipping(music):
    page = player({"loud": 2 * music, "quiet": 0.02 * music}, RATE).data
    assert "common gain -7.0 dB" in page  # 0.89 / 2
    (loud, _), (quiet, _) = decoded(page)
    assert np.abs(loud).max() < 1
    assert rms(loud) / rms(quiet) == pytest.approx(100, rel=0.01)
    assert "common gain 0.0 dB" in player({"quiet": 0.02 * music}, RATE).data  # never raised
    assert "common gain 0.0 dB" in player({"at the limit": 0.892 * music}, RATE).data  # -0.02 dB


def test_error_is_estimate_minus_target_at_the_common_gain(music):
    clips = {"vocals": music, "vocals estimate": music - 0.1 * music[:, ::-1]}
    page = player(clips, RATE, error=("vocals estimate", "vocals")).data
    assert page.count("<audio controls") == 3
    assert 'aria-label="error"' in page
    (target, _), _, (error, _) = decoded(page)
    assert rms(error) / rms(target) == pytest.approx(0.1, rel=0.02)
    with pytest.raises(SepkitError, match="error needs the clip 'drums'"):
        player(clips, RATE, error=("drums", "vocals"))
    with pytest.raises(SepkitError, match="a target of its length"):
        player({"short": music[:, :1000], "vocals": music}, RATE, error=("short", "vocals"))


def test_a_list_of_errors_gives_each_estimate_a_second_sound(music):
    clips = {"vocals": music, "Base": 0.9 * music, "Best": music + 0}
    page = player(clips, RATE, error=[("Base", "vocals"), ("Best", "vocals")]).data
    labels = re.findall('<audio[^>]* aria-label="([^"]+)"', page)
    assert labels == ["vocals", "Base", "error of Base", "Best", "error of Best"]
    assert page.count("<tr>") == 3
    assert page.count("<br>error silent<") == 1
    (target, _), _, (error, _), *_ = decoded(page)
    assert rms(target) / rms(error) == pytest.approx(10, rel=0.02)


def test_clips_of_one_player_are_of_one_length_and_drawn_on_one_scale():
    page = player({"long": 0.5 * np.ones(8000), "short": -0.1 * np.ones(2000)}, 8000).data
    assert len({len(samples) for samples, _ in decoded(page)}) == 1
    long, short = re.findall('data-peaks="([^"]+)"', page)
    assert set(long) == {"z"}
    assert (short[:59], short[62:]) == ("7" * 59, "0" * 178)


def test_silence_is_silent():
    page = player({"silence": np.zeros((2, RATE))}, RATE).data
    assert ">silent<" in page
    assert np.abs(decoded(page)[0][0]).max() < 1e-4


@pytest.mark.parametrize("rate", [8000, 22050, 32000, 44100, 48000, 50000, 96000])
def test_other_rates_keep_length_and_level(rate):
    tone = 0.3 * np.sin(2 * np.pi * 500 * np.arange(2 * rate) / rate)
    (samples, read_rate), *_ = decoded(player({"tone": tone}, rate).data)
    assert len(samples) / read_rate == pytest.approx(2, abs=0.06)
    assert rms(samples) == pytest.approx(rms(tone), rel=0.03)


def test_at_most_ten_seconds_from_the_given_start():
    ramp = np.repeat([0.1, 0.2, 0.4], 5 * 8000)
    wave = ramp * np.sin(np.arange(len(ramp)))
    page = player({"clip": wave}, 8000, start_s=5).data
    (samples, rate), *_ = decoded(page)
    assert len(samples) / rate == pytest.approx(10, abs=0.1)
    assert "10.0 s from 5.0 s" in page
    half = len(samples) // 2
    assert rms(samples[half:]) / rms(samples[:half]) == pytest.approx(2, rel=0.02)


def test_page_needs_no_network_and_rows_come_before_the_script(music):
    page = player({"a <b> & c": music}, RATE, title="Song <1>").data
    rows, script = page.split("<script>")
    assert rows.count("<audio controls") == 1
    assert "http" not in page
    assert "a &lt;b&gt; &amp; c" in rows
    assert "Song &lt;1&gt;" in rows
    assert len(script) < 10_500
    assert script.count("</script>") == 1


@pytest.mark.parametrize(("kbit_s", "bytes_s"), [(64, 8_000), (48, 6_000)])
def test_bytes_of_a_page(music, kbit_s, bytes_s):
    """Base64 of `kbit_s`, and the containers' overhead: so many clips that a report has."""
    size = [len(player({str(k): music for k in range(n)}, RATE, kbit_s=kbit_s).data) for n in (1, 3)]
    assert (size[1] - size[0]) / 2 == pytest.approx(5 * bytes_s * 4 / 3, rel=0.07)


@pytest.mark.parametrize(
    ("clip", "words"),
    [
        (np.array([0.0, np.nan, np.inf]), "2 samples that are not finite"),
        (np.zeros((100, 2)), r"\(channel, time\) with one or two channels; got shape \(100, 2\)"),
        (np.zeros((1, 2, 100)), r"got shape \(1, 2, 100\)"),
        (np.zeros((2, 0)), r"got shape \(2, 0\)"),
        (np.zeros((2, 100), np.int16), "floating point with full scale at 1; got int16"),
    ],
)
def test_what_can_not_be_played_is_named(clip, words):
    with pytest.raises(SepkitError, match=words) as error:
        player({"good": np.zeros(100), "broken": clip}, RATE)
    assert "'broken'" in str(error.value)


def test_no_clips_and_nothing_at_the_start_are_refused():
    with pytest.raises(SepkitError, match="at least one clip"):
        player({}, RATE)
    with pytest.raises(SepkitError, match=r"has 1\.00 s, nothing from 2 s on"):
        player({"short": np.zeros(RATE)}, RATE, start_s=2)


def test_tensors_with_gradient_are_accepted():
    torch = pytest.importorskip("torch")
    assert as_clip(torch.zeros(2, 10, requires_grad=True), "x").shape == (2, 10)


def test_flac_where_opus_can_not_be_written(monkeypatch):
    monkeypatch.setattr(soundfile, "available_subtypes", lambda kind: {})
    tone = 0.5 * np.sin(np.arange(44100) / 5)
    page = player({"loud": tone, "quiet": tone / 100}, RATE).data
    (loud, _), (quiet, _) = decoded(page)
    assert "audio/flac" in page
    assert rms(loud) / rms(quiet) == pytest.approx(100, rel=0.01)


def test_loudest_part():
    signal = np.concatenate([np.zeros(4000), 0.1 * np.ones(2000), np.ones(3000), np.zeros(5000)])
    assert loudest_s(signal, 1000, 3) == 6.0
    assert loudest_s(signal[:2000], 1000, 3) == 0.0
