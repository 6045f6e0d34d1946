"""The cache holds what the songs hold, survives kills and damage, and knows its sources."""

import json
import multiprocessing
import os
import pickle
import resource
import shutil
import signal
import time
from types import SimpleNamespace

import h5py
import numpy as np
import pytest
import soundfile as sf

from sepkit.data import build as building
from sepkit.data import manifest as manifests
from sepkit.data.build import CacheWriter, activity_db, build_cache, cache_track, fingerprint
from sepkit.data.cache import Cache, CacheSettings, cache_gigabytes, track_file
from sepkit.data.songs import accompaniment, find_songs, read_song
from sepkit.errors import SepkitError
from sepkit.profiles import STEMS
from sepkit.storage import Root
from sepkit.storage.files import part_of

FULL = CacheSettings()
HALF = CacheSettings(sample_rate=22050)
FOUR = CacheSettings(sources=STEMS)
STEP = 1 / 32768
PRINTS = ["7ed18f2842fe", "ae54df0dff3e", "7429c60bae04", "deb2f04bd022", "f93cf89c83c3"]


@pytest.fixture
def songs(mini_songs, tmp_path):
    return shutil.copytree(mini_songs, tmp_path / "songs")


@pytest.fixture
def empty_root(tmp_path):
    return Root.open(tmp_path / "empty", "demo")


def build(songs, root, settings=FULL, exclude=(), **options):
    return build_cache(find_songs(songs, exclude), root, settings, n_jobs=1, **options)


def content(cache):
    """Every number in every file, and the manifest."""
    found = {"manifest": json.loads((cache.path / "manifest.json").read_text())}
    for file in sorted(cache.path.glob("*.h5")):
        with h5py.File(file) as h5:
            found[file.name] = {name: (h5[name][:].tobytes(), h5[name].shape, dict(h5[name].attrs)) for name in h5}
    return found


def rewrite(file, change):
    audio, rate = sf.read(file, dtype="int16")
    sf.write(file, change(audio), rate, subtype="PCM_16")


@pytest.mark.parametrize("settings", [FULL, FOUR], ids=["two stems", "four stems"])
def test_reading_gives_the_songs_back(songs, empty_root, settings):
    with_fixed = build(songs, empty_root, settings)
    for track in find_songs(songs).tracks:
        audio, _ = read_song(track)
        audio["accompaniment"] = accompaniment(audio)
        expected = np.stack([audio[source] for source in settings.sources])
        found = with_fixed.sources(track.name)
        assert found.dtype == np.float32
        assert with_fixed.n_samples(track.name) == found.shape[-1] == 3 * 44100
        np.testing.assert_allclose(found, expected, atol=STEP / 2 + 1e-7)
        np.testing.assert_allclose(with_fixed.song(track.name)[0], audio["mixture"], atol=1.01 * STEP)
        np.testing.assert_array_equal(with_fixed.sources(track.name, 777, 5000), found[..., 777:5000])
        np.testing.assert_array_equal(
            with_fixed.song(track.name, 777, 5000)[0], with_fixed.song(track.name)[0][:, 777:5000]
        )
    with_fixed.close()


def test_names_by_split_and_only_the_splits_asked_for(songs, empty_root):
    some = build(songs, empty_root, splits=("train", "valid"))
    assert some.names("train") == ["A0 - Train", "A1 - Train"]
    assert some.names("valid") == ["V0 - Valid"]
    assert some.names("test") == []
    assert not track_file(some.path, "T0 - Test").exists()
    everything = build(songs, empty_root)
    assert everything.path == some.path
    assert everything.names("test") == ["T0 - Test"]


def test_no_songs_of_a_split_is_refused(make_mini, tmp_path, empty_root):
    make_mini(tmp_path / "few", 1, 1, 0)
    with pytest.raises(SepkitError, match=r"No songs of test .*0 found"):
        build(tmp_path / "few", empty_root, splits=("test",))


def test_a_cache_is_not_built_twice(cache, root, mini_songs, monkeypatch):
    monkeypatch.setattr(building, "cache_track", None)
    before = {file: file.stat().st_mtime_ns for file in cache.path.iterdir()}
    assert build(mini_songs, root, HALF).path == cache.path
    assert before == {file: file.stat().st_mtime_ns for file in cache.path.iterdir()}


def test_sums_above_full_scale_keep_their_peaks(make_song, tmp_path, empty_root):
    song = make_song(tmp_path / "loud" / "train" / "A - B")
    tone = np.sin(2 * np.pi * 441 * np.arange(3 * 44100) / 44100)[:, None] * [0.9, -0.9]
    for stem in ("drums", "bass", "other"):
        sf.write(song / f"{stem}.wav", tone, 44100, subtype="PCM_16")
    cache = build(tmp_path / "loud", empty_root)
    expected = 3 * sf.read(song / "drums.wav")[0].T
    np.testing.assert_allclose(cache.sources("A - B")[1], expected, atol=0.51 * 2.7 / 32767)
    assert np.abs(cache.sources("A - B")).max() == pytest.approx(2.7, abs=3e-4)


@pytest.mark.parametrize("settings", [FULL, FOUR, HALF], ids=["two", "four", "resampled"])
def test_the_mixture_is_stored_only_where_it_is_not_the_sum(songs, empty_root, settings):
    noise = np.random.default_rng(0).normal(0, 0.01, (3 * 44100, 2)) * 32768
    file = songs / "train" / "A1 - Train" / "mixture.wav"
    rewrite(file, lambda audio: (audio + noise).astype(np.int16))
    cache = build(songs, empty_root, settings)
    stored = {name for name in cache.songs if "mixture" in cache.file(name)}
    assert stored == {"A1 - Train"}
    if settings.sample_rate == 44100:
        mixture = sf.read(file)[0].T
        np.testing.assert_allclose(cache.song("A1 - Train")[0], mixture, atol=STEP)


def test_two_of_four_stems_do_not_pass_for_a_mixture(songs, empty_root):
    cache = build(songs, empty_root, CacheSettings(sources=("vocals", "drums")))
    expected = sf.read(songs / "train" / "A0 - Train" / "mixture.wav")[0].T
    np.testing.assert_allclose(cache.song("A0 - Train")[0], expected, atol=STEP)


def test_resampling_keeps_low_tones_and_drops_those_above_half_the_rate(make_song, tmp_path, empty_root):
    song = make_song(tmp_path / "tones" / "train" / "A - B", seconds=3.0001)
    frames = sf.info(song / "drums.wav").frames
    for stem, hz in (("vocals", 1000), ("drums", 15000)):
        tone = 0.5 * np.sin(2 * np.pi * hz * np.arange(frames) / 44100)
        sf.write(song / f"{stem}.wav", np.stack([tone, tone], axis=1), 44100, subtype="PCM_16")
    settings = CacheSettings(sample_rate=22050, sources=STEMS)
    cache = build(tmp_path / "tones", empty_root, settings)
    vocals, drums = cache.sources("A - B")[:2]
    assert vocals.shape[-1] == -(-frames // 2)
    inner = slice(1000, -1000)
    expected = 0.5 * np.sin(2 * np.pi * 1000 * np.arange(vocals.shape[-1]) / 22050)
    np.testing.assert_allclose(vocals[0, inner], expected[inner], atol=2e-3)
    assert np.abs(drums[..., inner]).max() < 5e-3


def test_activity_is_the_loudness_of_the_vocals(mini_songs, cache):
    loudness = cache.file("A0 - Train")["activity_db"][:]
    assert loudness.shape == (30,)
    assert (loudness[:11] < -90).all()  # they rest for 1.2 s
    half = 20 * np.log10(0.05) - 3.01  # white noise at half the rate keeps half of its power
    np.testing.assert_allclose(loudness[13:], half, atol=0.6)


def test_activity_of_a_known_signal():
    left = np.repeat([1.0, 0.1, 0.0], [2205, 2205, 1000])
    np.testing.assert_allclose(activity_db(np.stack([left, left]), 22050), [0, -20, -120], atol=1e-4)
    np.testing.assert_allclose(activity_db(np.stack([left, 0 * left]), 22050)[0], -3.0103, atol=1e-3)


def test_the_size_is_known_before_it_is_built(songs, empty_root):
    cache = build(songs, empty_root)
    predicted = cache_gigabytes(4 * 3 / 3600, FULL)
    found = sum(file.stat().st_size for file in cache.path.glob("*.h5")) / 1e9
    assert found == pytest.approx(predicted, rel=0.05)
    assert cache_gigabytes(1, FOUR) == 2 * cache_gigabytes(1, FULL)


def test_the_size_is_said_before_the_first_song_is_built(songs, empty_root, capsys):
    """And a cache that was built already says nothing."""
    build(songs, empty_root)
    first, *rest = capsys.readouterr().out.splitlines()
    needed = cache_gigabytes(4 * 3 / 3600, FULL)
    assert first.startswith(f"cache: 4 songs, 0.00 hours: {needed:.2f} GB of ")
    assert str(empty_root.path) in first
    assert [line.split()[1] for line in rest] == ["1/4", "2/4", "3/4", "4/4"]
    build(songs, empty_root)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("settings", [FULL, FOUR, CacheSettings(kind="stft")], ids=["two", "four", "stft"])
def test_a_cache_that_does_not_fit_is_refused_before_any_work(songs, empty_root, monkeypatch, settings):
    needed = round(cache_gigabytes(4 * 3 / 3600, settings) * 1e9)
    monkeypatch.setattr(building, "cache_track", None)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=needed - 10))
    with pytest.raises(SepkitError, match=r"4 songs needs 0.0\d GB, but .* free some space, or give a --root"):
        build(songs, empty_root, settings)
    assert not list((empty_root.path / "cache").glob("*/*.h5"))


def test_the_minutes_of_a_build_are_booked(cache, root, mini_songs):
    assert root.budget().empty  # a cache that is there costs nothing
    track_file(cache.path, "A0 - Train").unlink()
    build(mini_songs, root, HALF)
    assert set(root.budget()["stage"]) == {"cache"}


def test_the_same_songs_and_settings_always_name_the_same_caches(make_mini, tmp_path):
    folder = find_songs(make_mini(tmp_path, 1, 0, 0, seconds=0.1))
    kinds = (FULL, HALF, FOUR, CacheSettings(kind="stft"), CacheSettings(kind="stft", bandwidth_hz=8000.0))
    assert [fingerprint(folder, settings) for settings in kinds] == PRINTS


def test_the_fingerprint_ignores_place_and_time(songs, mini_songs):
    for file in songs.rglob("*.wav"):
        os.utime(file, (0, 0))
    assert fingerprint(find_songs(songs), FULL) == fingerprint(find_songs(mini_songs), FULL)


@pytest.mark.parametrize(
    "other", [HALF, FOUR, CacheSettings(kind="stft"), CacheSettings(sources=("accompaniment", "vocals"))]
)
def test_the_fingerprint_covers_every_setting(mini_songs, other):
    assert fingerprint(find_songs(mini_songs), FULL) != fingerprint(find_songs(mini_songs), other)


@pytest.mark.parametrize("place", ["train/A0 - Train", "train/V0 - Valid", "test/T0 - Test"])
@pytest.mark.parametrize("stem", ["mixture", "vocals", "other"])
def test_the_fingerprint_covers_every_sample_of_every_file(songs, place, stem):
    def flip(audio):
        audio[20000, 0] ^= 1
        return audio

    before = fingerprint(find_songs(songs), FULL)
    rewrite(songs / place / f"{stem}.wav", flip)
    assert fingerprint(find_songs(songs), FULL) != before


def test_the_fingerprint_of_long_songs_notices_another_take(make_song, tmp_path):
    track = make_song(tmp_path / "train" / "A - B", seconds=20.0)
    before = fingerprint(find_songs(tmp_path), FULL)

    def another_take_of_the_middle(audio):
        audio[300_000:360_000] = audio[310_000:370_000]
        return audio

    rewrite(track / "drums.wav", another_take_of_the_middle)
    assert fingerprint(find_songs(tmp_path), FULL) != before


def test_renaming_or_adding_a_song_changes_the_fingerprint(songs, make_song):
    prints = {fingerprint(find_songs(songs), FULL)}
    (songs / "train" / "A0 - Train").rename(songs / "train" / "A0 - Renamed")
    prints.add(fingerprint(find_songs(songs), FULL))
    make_song(songs / "test" / "T1 - New")
    prints.add(fingerprint(find_songs(songs), FULL))
    assert len(prints) == 3


def test_excluding_a_song_keeps_the_cache_and_leaves_the_song_out(songs, empty_root):
    everything = build(songs, empty_root)
    fewer = build(songs, empty_root, exclude=["A0 - Train"])
    assert fewer.path == everything.path
    assert fewer.names("train") == ["A1 - Train"]
    assert "A0 - Train" not in fewer.songs


def test_a_broken_excluded_song_is_no_obstacle_and_is_not_cached(songs, empty_root):
    (songs / "train" / "A0 - Train" / "bass.wav").unlink()
    with pytest.raises(SepkitError, match=r"A0 - Train: bass\.wav: missing stem"):
        build(songs, empty_root)
    cache = build(songs, empty_root, exclude=["A0 - Train"])
    assert list(cache.songs) == ["A1 - Train", "V0 - Valid", "T0 - Test"]
    assert not track_file(cache.path, "A0 - Train").exists()


def test_a_song_that_only_its_audio_betrays_does_not_stop_the_others(songs, empty_root, monkeypatch):
    file = songs / "train" / "A0 - Train" / "drums.wav"
    audio = sf.read(file)[0]
    audio[5] = np.nan
    sf.write(file, audio, 44100, subtype="FLOAT")
    with pytest.raises(SepkitError, match=r"A0 - Train: drums\.wav: not finite"):
        build(songs, empty_root)
    (path,) = (empty_root.path / "cache").iterdir()
    assert {file.stem for file in path.glob("*.h5")} == {"A1 - Train", "V0 - Valid", "T0 - Test"}
    monkeypatch.setattr(building, "cache_track", None)  # nothing is done again
    assert len(build(songs, empty_root, exclude=["A0 - Train"]).songs) == 3


def test_stem_mp4_without_ffmpeg_is_one_sentence(tmp_path, empty_root, monkeypatch):
    for name in "ABC":
        file = tmp_path / "mp4" / "train" / f"{name} - X.stem.mp4"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"not audio")
    monkeypatch.setenv("PATH", "")
    with pytest.raises(SepkitError, match="needs ffmpeg and ffprobe") as caught:
        build(tmp_path / "mp4", empty_root)
    assert str(caught.value).count("ffmpeg and ffprobe") == 1


def test_a_song_shorter_than_a_second_is_cached(make_song, tmp_path, empty_root):
    make_song(tmp_path / "short" / "train" / "A - B", seconds=0.33)
    cache = build(tmp_path / "short", empty_root)
    assert cache.sources("A - B").shape == (2, 2, 14553)
    assert cache.file("A - B")["activity_db"].shape == (4,)


@pytest.mark.parametrize(
    "damage",
    [
        lambda file: file.write_bytes(file.read_bytes()[: file.stat().st_size // 3]),
        lambda file: file.write_bytes(b""),
        lambda file: file.write_text("version https://git-lfs.github.com/spec/v1"),
        lambda file: file.unlink(),
        lambda file: file.write_bytes(file.read_bytes()[:300_000] + bytes(4096) + file.read_bytes()[304_096:]),
    ],
    ids=["a third", "empty", "stub", "deleted", "zeroed inside"],
)
def test_a_damaged_file_is_built_again_with_a_line(mini_songs, root, cache, capsys, damage):
    """S35, S82: and the other files are left alone."""
    before, file = content(cache), track_file(cache.path, "A1 - Train")
    others = {other: other.stat().st_mtime_ns for other in cache.path.glob("*.h5") if other != file}
    capsys.readouterr()
    damage(file)
    build(mini_songs, root, HALF)
    assert content(cache) == before
    assert "A1 - Train" in capsys.readouterr().out
    assert others == {other: other.stat().st_mtime_ns for other in others}


def test_a_right_file_is_read_once_a_machine(mini_songs, root, cache, monkeypatch):
    """A file is read again only where its size or its time has changed, as after a copy."""
    read, digest = [], manifests.digest
    monkeypatch.setattr(manifests, "digest", lambda file: (read.append(file.stem), digest(file))[1])
    build(mini_songs, root, HALF)
    assert not read
    os.utime(track_file(cache.path, "V0 - Valid"))
    build(mini_songs, root, HALF)
    build(mini_songs, root, HALF)
    assert read == ["V0 - Valid"]


def test_the_source_of_a_song_changes_with_its_files_alone(songs, empty_root):
    """Neither with the rate and the sources of the cache, nor with another song's files."""
    before = {name: song["source"] for name, song in build(songs, empty_root, FULL).songs.items()}
    assert {name: song["source"] for name, song in build(songs, empty_root, FOUR).songs.items()} == before
    rewrite(songs / "test" / "T0 - Test" / "bass.wav", lambda audio: audio[::-1])
    after = {name: song["source"] for name, song in build(songs, empty_root, FULL).songs.items()}
    assert [name for name in before if after[name] != before[name]] == ["T0 - Test"]


def test_songs_written_one_at_a_time_are_the_cache_that_a_folder_gives(songs, empty_root, tmp_path):
    """As an archive gives them; a second writer goes on where the first one was stopped."""
    built, tracks = build(songs, empty_root), find_songs(songs).tracks
    root = Root.open(tmp_path / "fetched", "demo")
    for part in (tracks[:2], tracks[2:]):
        writer = CacheWriter(root, FULL, "wav", origin=find_songs(songs).origin)
        for track in part:
            song, problems = cache_track(track, writer.path, FULL)
            assert not problems
            writer.enter(track.name, song)
        assert list(writer.songs) == [track.name for track in tracks[: len(writer.songs)]]
    assert json.loads((writer.path / "manifest.json").read_text())["whole"] == []
    writer.finish(("train", "valid", "test"))
    one, other = content(built), content(Cache(writer.path, FULL, writer.songs))
    assert one == other


def test_a_song_with_a_problem_is_named_and_not_written(songs, empty_root):
    (songs / "train" / "A0 - Train" / "bass.wav").unlink()
    song, (problem,) = cache_track(find_songs(songs).tracks[0], empty_root.path, FULL)
    assert (problem.track, problem.file, problem.kind) == ("A0 - Train", "bass.wav", "missing stem")
    assert song is None
    assert not list(empty_root.path.rglob("*.h5"))


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_full_disk_is_one_sentence(songs, empty_root, capfd):
    """S77: here a limit on the size of files, which no library may answer with tracebacks."""

    def build_under_a_limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
        with pytest.raises(SepkitError, match=r"A0 - Train\.h5 can't be written \(File too large\); free some space"):
            build(songs, empty_root)

    process = multiprocessing.get_context("fork").Process(target=build_under_a_limit)
    process.start()
    process.join()
    assert process.exitcode == 0
    assert "Traceback" not in capfd.readouterr().err
    assert not list(empty_root.path.rglob("*.h5"))


def test_a_file_that_breaks_while_it_is_in_use_is_named(cache):
    file = track_file(cache.path, "A0 - Train")
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(SepkitError, match=rf"{file.name} can't be read .* run cache again"):
        cache.sources("A0 - Train")


def test_a_broken_manifest_is_named(mini_songs, root, cache):
    (cache.path / "manifest.json").write_text('{"settings": ')
    with pytest.raises(SepkitError, match=r"manifest\.json, but it can't be read .* delete it"):
        build(mini_songs, root, HALF)


def build_and_die(songs, root):
    """Builds, and is killed when half of the third song's file is written."""
    digest, calls = building.digest, []

    def cut_and_die(part):
        calls.append(1)
        if len(calls) == 3:
            os.truncate(part, part.stat().st_size // 2)
            os.kill(os.getpid(), signal.SIGKILL)
        return digest(part)

    building.digest = cut_and_die
    build(songs, root)


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_killed_build_goes_on_and_ends_like_a_clean_one(mini_songs, tmp_path, capsys):
    """S34: kill -9 in the middle of the third of four songs."""
    killed, clean = Root.open(tmp_path / "killed", "demo"), Root.open(tmp_path / "clean", "demo")
    process = multiprocessing.get_context("fork").Process(target=build_and_die, args=(mini_songs, killed))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    (path,) = (killed.path / "cache").iterdir()
    assert len(list(path.glob("*.h5"))) == 2
    assert len(list(path.glob(".*.part"))) == 1
    capsys.readouterr()
    resumed = build(mini_songs, killed)
    assert capsys.readouterr().out.count("cache ") == 2  # what was whole is not done again
    assert content(resumed) == content(build(mini_songs, clean))
    assert not list(path.glob(".*.part"))


def test_another_process_may_be_writing_the_same_cache(mini_songs, root, cache):
    """Its temporary file is not swept away; a dead writer's is."""
    track_file(cache.path, "A0 - Train").unlink()
    alive = part_of(cache.path / "B.h5")
    dead = cache.path / alive.name.replace(str(os.getpid()), "4194305")  # above the kernel's highest process id
    alive.touch()
    dead.touch()
    build(mini_songs, root, HALF)
    assert alive.exists()
    assert not dead.exists()


def test_a_pickled_cache_reads_the_same(cache):
    before = cache.sources("A0 - Train", 100, 200)  # a handle is open while it is pickled
    again = pickle.loads(pickle.dumps(cache))
    assert again._handles == {}
    np.testing.assert_array_equal(again.sources("A0 - Train", 100, 200), before)
    again.close()


def test_a_chunk_is_one_second_of_all_sources_uncompressed(songs, empty_root):
    """S37: a clip of s seconds touches at most s + 1 chunks, and nothing is unpacked to reach it."""
    audio = build(songs, empty_root).file("A0 - Train")["audio"]
    assert audio.chunks == (2, 2, 44100)
    assert audio.compression is None


def test_random_segments_cost_less_than_three_contiguous_reads(make_song, tmp_path, empty_root):
    make_song(tmp_path / "long" / "train" / "A - B", seconds=12.0)
    cache = build(tmp_path / "long", empty_root)
    starts = np.random.default_rng(0).integers(0, 10 * 44100, 18)

    def cost(read):
        times = []
        for _ in range(5):
            begin = time.process_time()
            read()
            times.append(time.process_time() - begin)
        return min(times)

    segments = cost(lambda: [cache.sources("A - B", start, start + 2 * 44100) for start in starts])
    contiguous = cost(lambda: [cache.sources("A - B") for _ in range(3)])  # 3 x 12 s = 18 x 2 s
    assert segments < 3 * contiguous
