"""Separated files: rate, length, depth, format and level; what is refused; and that nothing else is replaced."""

import os
import shutil
import struct
import subprocess
import sys
import time

import numpy as np
import pytest
import soundfile as sf

import sepkit
from sepkit.__main__ import main
from sepkit.errors import UsageError


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
        assert np.array_equal(audio[:, 0], audio[:, 1]) or channels == 2
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


def test_files_that_can_not_be_separated_are_named_at_the_end_and_the_others_are_done(separate, tmp_path):
    """S63."""
    good = tmp_path / "a" / "song.wav"
    good.parent.mkdir()
    sf.write(good, np.zeros((100, 2)), 44100)
    sf.write(tmp_path / "none.wav", np.zeros((0, 2)), 44100)
    sf.write(tmp_path / "six.wav", np.zeros((100, 6)), 44100)
    sf.write(tmp_path / "nan.wav", np.full((44100, 2), np.nan), 44100, subtype="FLOAT")
    sf.write(tmp_path / "huge.wav", np.full((44100, 2), 1e38), 44100, subtype="FLOAT")
    (tmp_path / "text.wav").write_text("no audio")
    cases = {
        tmp_path / "gone.wav": "There is no file",
        tmp_path / "text.wav": "is not audio that can be read here",
        tmp_path / "none.wav": "has 0 samples",
        tmp_path / "six.wav": "in 6 channels",
        tmp_path / "nan.wav": "The mixture holds 44100 samples that are not finite, the first at 0.00 s",
        tmp_path / "huge.wav": "samples that are not finite, where the mixture reaches 1e+38 times full scale",
    }
    status, out, error = separate(*cases, good, "--out", tmp_path / "out")
    assert status == 1
    assert out.startswith("song.wav: vocals, accompaniment in ")
    assert "6 of 7 files could not be separated" in error
    for bad, words in cases.items():
        assert words in error
        assert str(bad) in error
    assert {file.name for file in (tmp_path / "out").iterdir()} == {"song.vocals.wav", "song.accompaniment.wav"}
    for bad, words in cases.items():  # and alone
        status, out, error = separate(bad, "--out", tmp_path / "alone")
        assert (status, out) == (1, "")
        assert words in error
    assert list((tmp_path / "alone").iterdir()) == []
    assert separate(good, good, os.path.relpath(good))[0] == 0  # the same file thrice is one file
    status, _, error = separate(good, "--run", "C")
    assert status == 1
    assert "C-s0 has no best.ckpt yet" in error


def test_two_files_with_the_same_results_are_refused_before_any_work(separate, tmp_path):
    files = [tmp_path / "a" / "song.wav", tmp_path / "b" / "song.flac"]
    for file in files:
        file.parent.mkdir()
        sf.write(file, np.zeros((100, 2)), 44100)
    status, out, error = separate(*files, "--out", tmp_path / "out")
    assert (status, out) == (1, "")
    assert f"{files[0]} and {files[1]} would both write {tmp_path / 'out' / 'song.vocals.wav'}; rename one" in error
    assert not (tmp_path / "out").exists()
    assert separate(files[0], "--out", tmp_path / "out")[0] == 0
    first = (tmp_path / "out" / "song.vocals.wav").read_bytes()
    assert "vocals as song.Base-s0.vocals.wav, beside" in separate(files[1], "--out", tmp_path / "out")[1]
    assert (tmp_path / "out" / "song.vocals.wav").read_bytes() == first


@pytest.fixture
def song(tmp_path):
    """A second of noise as song.wav."""
    noise = np.random.default_rng(0).normal(0, 0.1, (22050, 2))
    sf.write(tmp_path / "song.wav", noise, 22050)
    return tmp_path / "song.wav"


def test_a_result_never_replaces_an_input_or_a_file_that_sepkit_did_not_make(separate, song, tmp_path):
    """S61: `separate song.wav song.vocals.wav` overwrote its second input before it read it."""
    true = tmp_path / "song.vocals.wav"
    sf.write(true, np.zeros((22050, 2)), 22050)
    before = true.read_bytes()
    status, out, error = separate(song, true)
    assert (status, out) == (1, "")
    assert f"would write {true}, which is a file to separate; give another --out" in error
    assert sorted(file.name for file in tmp_path.iterdir()) == ["song.vocals.wav", "song.wav"]
    status, out, _ = separate(song)
    assert status == 0
    assert "vocals as song.Base-s0.vocals.wav, beside another file of that name" in out
    assert true.read_bytes() == before
    shutil.copyfile(true, tmp_path / "song.Base-s0.vocals.wav")
    status, out, error = separate(song)
    assert (status, out) == (1, "")
    assert f"would replace {tmp_path / 'song.Base-s0.vocals.wav'}, which is not its result" in error


@pytest.mark.parametrize("kind", ["text", "folder", "broken link", "link to the song"])
def test_whatever_has_the_name_of_a_result_stays(separate, song, tmp_path, kind):
    taken, before = tmp_path / "song.vocals.wav", song.read_bytes()
    if kind == "text":
        taken.write_text("no audio")
    elif kind == "folder":
        taken.mkdir()
    else:
        taken.symlink_to(song if kind == "link to the song" else tmp_path / "nowhere")
    status, _, error = separate(song)
    assert (status, "which is a file to separate" in error) == (1, True) if kind == "link to the song" else status == 0
    assert song.read_bytes() == before
    assert taken.is_symlink() or taken.is_dir() or taken.read_text() == "no audio"


def test_results_of_another_run_stay_beside_and_those_of_this_run_are_replaced(separate, song, trained_root, tmp_path):
    other = trained_root.run("C-s0").path
    shutil.copytree(trained_root.run("Base-s0").path, other)
    try:
        assert "replaced" not in separate(song)[1]
        first = {file: file.read_bytes() for file in tmp_path.iterdir()}
        status, out, _ = separate(song, "--run", "C-s0")
        assert status == 0
        assert "vocals as song.C-s0.vocals.wav, beside" in out
        assert {file: file.read_bytes() for file in first} == first
        assert "replaced song.vocals.wav; replaced song.accompaniment.wav" in separate(song)[1]
        assert "replaced song.C-s0.vocals.wav" in separate(song, "--run", "C-s0")[1]
        assert len(list(tmp_path.iterdir())) == 5
    finally:
        shutil.rmtree(other)


@pytest.mark.parametrize("written", ["PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE"])
def test_the_depth_is_that_of_the_file_and_the_line_says_it(separate, tmp_path, written):
    """S66, S89: at -60 dBFS the sum of the 16-bit results missed a 24-bit song by -30 dB."""
    noise = np.random.default_rng(0).normal(0, 1e-3, (22050, 2))
    sf.write(tmp_path / "song.wav", noise, 22050, subtype=written)
    expected, words = {"PCM_16": ("PCM_16", "16 bits"), "PCM_24": ("PCM_24", "24 bits")}.get(
        written, ("FLOAT", "32-bit float")
    )
    assert f"({words}" in separate(tmp_path / "song.wav")[1]
    song, vocals, rest = (sf.read(tmp_path / f"song{name}.wav")[0] for name in ("", ".vocals", ".accompaniment"))
    assert sf.info(tmp_path / "song.vocals.wav").subtype == expected
    missed = np.abs(vocals + rest - song)
    if expected == "FLOAT":  # half of the last place of the larger of the two, and what its own 64 or 32 bits had more
        assert (missed <= 2.0**-24 * (np.maximum(np.abs(vocals), np.abs(rest)) + np.abs(song))).all()
    else:
        assert not missed.any()
    assert "(24 bits" in separate(tmp_path / "song.wav", "--subtype", "PCM_24")[1]
    assert sf.info(tmp_path / "song.vocals.wav").subtype == "PCM_24"


@pytest.mark.parametrize("written", ["PCM_16", "PCM_24"])
@pytest.mark.parametrize("rate", [22050, 44100])
@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("form", [("wav", "FLOAT"), ("wav", "PCM_24"), ("flac", "PCM_24"), ("flac", None)])
def test_vocals_and_accompaniment_add_up_to_the_file_to_the_last_bit(separate, tmp_path, written, rate, channels, form):
    noise = np.random.default_rng(0).normal(0, 0.25, (50000, channels))
    sf.write(tmp_path / "song.wav", noise.clip(-1, 1), rate, subtype=written)
    depth = ["--subtype", form[1]] if form[1] else []
    _, out, _ = separate(tmp_path / "song.wav", "--format", form[0], *depth)
    assert "clipped" not in out
    song, vocals, rest = (
        sf.read(tmp_path / f"song{name}", dtype="float32", always_2d=True)[0]
        for name in (".wav", f".vocals.{form[0]}", f".accompaniment.{form[0]}")
    )
    assert vocals.any()
    assert np.array_equal(vocals + rest, song * np.ones(2, np.float32))


def test_samples_beyond_full_scale_are_told_and_kept_in_float(separate, tmp_path):
    sf.write(tmp_path / "song.wav", np.full((22050, 2), 3.0), 22050, subtype="FLOAT")
    assert "clipped" not in separate(tmp_path / "song.wav")[1]
    parts = [sf.read(tmp_path / f"song.{source}.wav")[0] for source in ("vocals", "accompaniment")]
    np.testing.assert_allclose(parts[0] + parts[1], 3.0, atol=1e-6)
    assert "samples clipped at full scale" in separate(tmp_path / "song.wav", "--subtype", "PCM_16")[1]


@pytest.mark.parametrize("name", [b"Caf\x82.wav", b"x" * 251 + b".wav", "é".encode() * 122 + b".wav"])
def test_names_that_are_no_utf8_or_very_long_are_separated(separate, song, tmp_path, name):
    """S58, S67."""
    file, out = os.fsdecode(os.fsencode(tmp_path) + b"/" + name), tmp_path / "out"
    song.rename(file)
    assert separate(file, "--out", out)[0] == 0
    assert sorted(sf.info(os.fsencode(each)).frames for each in out.iterdir()) == [22050, 22050]
    assert "replaced" in separate(file, "--out", out)[1]


def test_a_header_without_a_length_is_read_to_its_end(separate, song, tmp_path):
    """S64."""
    assert separate(song)[0] == 0
    expected = (tmp_path / "song.vocals.wav").read_bytes()
    content = bytearray(song.read_bytes())
    content[40:44] = content[4:8] = struct.pack("<I", 0)
    song.write_bytes(content)
    assert separate(song)[0] == 0
    assert (tmp_path / "song.vocals.wav").read_bytes() == expected


def test_a_full_disk_is_one_sentence_and_leaves_no_part(separate, tmp_path):
    """S77: libsndfile says "System error", with a stack of soundfile's."""
    resource = pytest.importorskip("resource")  # absent on Windows
    sf.write(tmp_path / "song.wav", np.random.default_rng(0).normal(0, 0.1, (100000, 2)), 22050)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, limits[1]))
    try:
        status, out, error = separate(tmp_path / "song.wav", "--out", tmp_path / "out")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert (status, out) == (1, "")
    assert f"no space left in {tmp_path / 'out'} for its results, or another limit there (" in error
    assert len(error.splitlines()) == 1
    assert list((tmp_path / "out").iterdir()) == []


def test_room_is_looked_for_before_a_file_is_separated(separate, song, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: shutil._ntuple_diskusage(10**9, 10**9, 10**5))
    status, out, error = separate(song, "--out", tmp_path / "out")
    assert (status, out) == (1, "")
    assert f"no space left in {tmp_path / 'out'} for its results" in error
    assert "(0.2 MB are needed, 0.1 MB are free); make room, or give another --out" in error


def test_a_folder_that_takes_no_files_is_refused_before_any_work(separate, song, tmp_path):
    (tmp_path / "file").write_text("")
    for out, words in ((tmp_path / "file", "File exists"), (tmp_path / "file" / "out", "Not a directory")):
        status, said, error = separate(song, "--out", out)
        assert (status, said) == (1, "")
        assert f"Nothing can be written to {out} ({words}); give another --out" in error
    status, said, error = separate(song, "--out", "/proc/out")
    assert (status, said) == (1, "")
    assert "Nothing can be written to /proc/out (" in error
    assert separate(song, "--out", tmp_path / "new" / "folder")[0] == 0


def test_results_beyond_4_gib_are_rf64(separate, song, tmp_path, monkeypatch):
    monkeypatch.setattr("sepkit.data.written.WAV_BYTES", 1000)
    assert separate(song)[0] == 0
    assert sf.info(tmp_path / "song.vocals.wav").format == "RF64"
    assert "replaced song.vocals.wav" in separate(song)[1]


@pytest.mark.parametrize(
    ("format", "depths"), [("flac", ("PCM_16", "PCM_24", "PCM_24")), ("mp3", ("MPEG_LAYER_III",) * 3)]
)
def test_other_formats_have_the_files_depth_where_they_can(separate, tmp_path, format, depths):
    noise = np.random.default_rng(0).normal(0, 0.1, (22051, 2))
    for written, depth in zip(("PCM_16", "PCM_24", "FLOAT"), depths, strict=True):
        sf.write(tmp_path / "söng.wav", noise, 22050, subtype=written)
        status, out, error = separate(tmp_path / "söng.wav", "--format", format)
        assert (status, error) == (0, "")
        assert {"PCM_16": "(16 bits", "PCM_24": "(24 bits"}.get(depth, "(MP3") in out
        parts = [tmp_path / f"söng.{source}.{format}" for source in ("vocals", "accompaniment")]
        for part in parts:
            info = sf.info(part)
            assert (info.format, info.subtype, info.samplerate, info.channels) == (format.upper(), depth, 22050, 2)
        audio = sum(sf.read(part)[0] for part in parts)
        assert audio.shape == noise.shape
        assert np.abs(audio - noise).max() < (0.5 if format == "mp3" else 2**-15)
        assert np.corrcoef(audio.T, noise.T)[0, 2] > 0.9
        assert ("replaced söng.vocals" in out) == (written != "PCM_16")  # its own of the round before
    shutil.copyfile(tmp_path / f"söng.accompaniment.{format}", tmp_path / f"söng.vocals.{format}")
    sf.write(parts[1], noise, 22050, format=format.upper())  # somebody else's
    before = parts[1].read_bytes()
    assert (
        f"accompaniment as söng.Base-s0.accompaniment.{format}, beside"
        in separate(tmp_path / "söng.wav", "--format", format)[1]
    )
    assert parts[1].read_bytes() == before
    assert not (tmp_path / "söng.vocals.wav").exists()


def test_clipping_is_told_for_flac_and_mp3(separate, tmp_path):
    sf.write(tmp_path / "song.wav", np.full((22050, 2), 3.0), 22050, subtype="FLOAT")
    for format in ("flac", "mp3"):
        assert "samples clipped at full scale" in separate(tmp_path / "song.wav", "--format", format)[1]


@pytest.mark.parametrize("form", [("wav", "PCM_16"), ("wav", "FLOAT"), ("flac", "PCM_24"), ("mp3", None)])
def test_the_same_song_gives_the_same_bytes_at_another_time(separate, song, tmp_path, form):
    """libsndfile writes the time into float WAV files."""
    depth = ["--subtype", form[1]] if form[1] else []
    found = []
    for out in ("first", "second"):
        assert separate(song, "--out", tmp_path / out, "--format", form[0], *depth)[0] == 0
        found.append({file.name: file.read_bytes() for file in (tmp_path / out).iterdir()})
        time.sleep(1.1)
    assert len(found[0]) == 2
    assert found[0] == found[1]


def test_what_a_format_can_not_hold_is_one_sentence_before_any_work(separate, tmp_path, monkeypatch):
    for rate in (96000, 22050):
        sf.write(tmp_path / f"{rate}.wav", np.zeros((100, 2)), rate)
    status, out, error = separate(tmp_path / "96000.wav", "--format", "mp3")
    assert (status, out) == (1, "")
    assert (
        f"{tmp_path / '96000.wav'}: libsndfile {sf.__libsndfile_version__} writes no MP3 of 96000 Hz; give another"
        in error
    )
    assert separate(tmp_path / "96000.wav", "--format", "flac")[0] == 0
    for format, subtype, words in (
        ("flac", "FLOAT", "no subtype 'FLOAT'; expected one of PCM_16, PCM_24 in FLAC"),
        ("mp3", "PCM_16", "no subtype 'PCM_16'; expected one of MPEG_LAYER_III in MP3"),
    ):
        status, out, error = separate(tmp_path / "22050.wav", "--format", format, "--subtype", subtype)
        assert (status, out) == (2, "")
        assert words in error
    with pytest.raises(UsageError, match="no format 'ogg'; expected one of wav, flac, mp3"):
        sepkit.separate(tmp_path / "22050.wav", format="ogg")
    monkeypatch.setitem(sf._formats, "MP3", 0x7F0000)  # as a libsndfile that does not know it
    status, out, error = separate(tmp_path / "22050.wav", "--format", "mp3")
    assert (status, out) == (1, "")
    assert "writes no MP3 of 22050 Hz; give another --format" in error
    assert {file.name for file in tmp_path.iterdir()} == {
        "96000.wav", "96000.vocals.flac", "96000.accompaniment.flac", "22050.wav",
    }  # fmt: skip


def test_some_sources_only(separate, song, trained_root, tmp_path):
    for given, written in (("vocals", ["vocals"]), ("accompaniment,vocals,vocals", ["accompaniment", "vocals"])):
        status, out, _ = separate(song, "--out", tmp_path / given, "--sources", given)
        assert status == 0
        assert out.startswith(f"song.wav: {', '.join(written)} in ")
        assert {file.name for file in (tmp_path / given).iterdir()} == {f"song.{name}.wav" for name in written}
    both = sepkit.separate(song, root=trained_root, out=tmp_path / "both", sources="vocals accompaniment")
    assert [file.name for file in both] == ["song.vocals.wav", "song.accompaniment.wav"]
    assert both[0].read_bytes() == (tmp_path / "vocals" / "song.vocals.wav").read_bytes()
    for given, words in (("vocals,drums", "no source drums"), ("", "no source none")):
        status, out, error = separate(song, "--sources", given)
        assert (status, out) == (2, "")
        assert f"Base-s0 gives {words}; expected some of vocals, accompaniment." in error


@pytest.fixture
def album(tmp_path):
    """Five songs, and what is none."""
    folder = tmp_path / "album"
    for name in ("2.wav", "1.flac", "cd [1]/a.wav", "cd [1]/more/b.WAV", "cd 2/a.wav"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        sf.write(folder / name, np.full((2205, 2), 0.1), 22050)
    for name in ("._2.wav", ".hidden.wav", "cover.jpg", ".cache/x.wav", "__MACOSX/2.wav"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("no audio")
    return folder


SONGS = ["1", "2", "cd 2/a", "cd [1]/a", "cd [1]/more/b"]


@pytest.mark.parametrize(
    ("given", "songs"),
    [
        ("album", SONGS),
        ("album/*", SONGS),
        ("album/**", SONGS),
        ("album/*.wav", ["2"]),
        ("album/**/*.[wW][aA][vV]", ["2", *SONGS[2:]]),
        ("album/cd*/a.wav", ["cd 2/a", "cd [1]/a"]),
        ("album/cd [1]", ["a", "more/b"]),  # a name that is there is no pattern
        ("album/cd [1]/a.wav", ["a"]),
        ("alb?m/cd 2", ["album/cd 2/a"]),
    ],
)
def test_folders_and_patterns(separate, album, tmp_path, monkeypatch, given, songs):
    monkeypatch.chdir(tmp_path)
    for place in (given, tmp_path / given):
        for _ in range(2):  # results are no songs
            status, out, error = separate(place, "--out", album / "results")
            assert (status, error) == (0, "")
            assert [line.split(": ")[0].rpartition(".")[0] for line in out.splitlines()] == [
                song.rpartition("/")[2] for song in songs
            ]
        found = {str(file.relative_to(album / "results")) for file in (album / "results").rglob("*.wav")}
        assert found == {f"{song}.{source}.wav" for song in songs for source in ("vocals", "accompaniment")}
        shutil.rmtree(album / "results")


def test_results_of_a_folder_lie_beside_its_songs_and_each_song_is_separated_once(separate, album):
    status, out, error = separate(album, album / "cd 2" / "a.wav", album / "cd*")
    assert (status, error) == (0, "")
    assert len(out.splitlines()) == 5
    assert {str(file.relative_to(album)) for file in album.rglob("*.vocals.wav")} == {
        f"{song}.vocals.wav" for song in SONGS
    }


def test_nothing_to_separate_is_one_sentence_before_any_work(separate, song, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    for given in ("empty", "*.flac", "none/**/*.wav", "empty/*"):
        status, out, error = separate(song, given, "--out", "out")
        assert (status, out) == (1, "")
        assert f"There is no audio at {given}, not counting hidden files and results; give others." in error
        assert not (tmp_path / "out").exists()
    if sys.version_info < (3, 13):
        assert "**.wav is no pattern (" in separate("**.wav")[2]
    assert separate("song.wav", "--out", "results")[0] == 0
    assert "There is no audio at results" in separate("results", "--out", "out")[2]
    assert separate("results/song.vocals.wav", "--out", "out")[0] == 0  # named, a result is a file as others are


def test_songs_of_a_folder_with_the_same_results_are_refused_before_any_work(separate, album):
    sf.write(album / "1.wav", np.zeros((100, 2)), 22050)
    status, out, error = separate(album)
    assert (status, out) == (1, "")
    assert f"{album / '1.flac'} and {album / '1.wav'} would both write {album / '1.vocals.wav'}; rename one" in error
    assert not list(album.rglob("*.vocals.wav"))


def test_a_terminal_sees_a_bar_over_the_seconds_of_all_files(album, trained_root, monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    for name in ("1.flac", "2.wav"):
        sf.write(album / name, np.zeros((22050 * 65, 2)), 22050)
    sepkit.separate([album / "1.flac", album / "2.wav"], root=trained_root, device="cpu")
    out, error = capsys.readouterr()
    assert [line.split(":")[0] for line in out.splitlines()] == ["1.flac", "2.wav"]
    assert "seconds separated:" in error
    assert "130/130" in error


def test_a_call_takes_one_file_and_refuses_an_unknown_subtype(song, trained_root):
    assert [file.name for file in sepkit.separate(str(song), root=trained_root)] == [
        "song.vocals.wav", "song.accompaniment.wav",
    ]  # fmt: skip
    with pytest.raises(UsageError, match="no subtype 'PCM_8'; expected one of PCM_16, PCM_24, FLOAT"):
        sepkit.separate(song, root=trained_root, subtype="PCM_8")


PEAK = """
import sys
from pathlib import Path
from sepkit.__main__ import main
assert main(["separate", *sys.argv[1:], "--device", "cpu"]) == 0
lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
print(int(lines["VmHWM"].split()[0]) / 1024)
"""


@pytest.mark.long
def test_memory_does_not_grow_with_the_length_of_a_file(trained_root, tmp_path):
    """S29: an hour took 5 GB more than ten minutes."""
    peaks = []
    for minutes in (2, 10):
        with sf.SoundFile(tmp_path / "song.wav", "w", 22050, 2, "PCM_16") as song:
            for seed in range(minutes * 6):
                song.write(np.random.default_rng(seed).normal(0, 0.1, (220500, 2)))
        call = [sys.executable, "-c", PEAK, str(tmp_path / "song.wav"), "--root", str(trained_root.path)]
        ended = subprocess.run(call, capture_output=True, text=True, check=True)
        peaks.append(float(ended.stdout.splitlines()[-1]))
        assert sf.info(tmp_path / "song.vocals.wav").frames == minutes * 60 * 22050
    assert peaks[1] - peaks[0] < 50  # MiB; the song has 80 more, its sources 160
