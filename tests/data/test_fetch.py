"""Songs out of a remote archive into the cache: a server that hangs up and sends wrong bytes, kills, what is told."""

import hashlib
import http.server
import json
import multiprocessing
import os
import random
import re
import shutil
import signal
import threading
import time
import zipfile
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import matplotlib
import pytest
from joblib.externals.loky import reusable_executor

import sepkit
from sepkit.data import build as building
from sepkit.data import fetch as fetching
from sepkit.data import locate, packs
from sepkit.data.archive import MUSDB18_HQ, TRIES, Archive
from sepkit.data.build import build_cache
from sepkit.data.cache import CacheSettings, track_file
from sepkit.data.songs import find_songs, musdb_validation_names
from sepkit.errors import SepkitError
from sepkit.parallel import spread
from sepkit.profiles import PROFILES, STEMS
from sepkit.storage import Root, read_json

NAMES = {
    "train": ("A Classic Education - NightOwl", "AvaLuna - Waterduct", *sorted(musdb_validation_names())[:2]),
    "test": ("AM Contra - Heart Peripheral", "BKS - Too Much"),
}


class Handler(http.server.BaseHTTPRequestHandler):
    """Sends the server's `content`, whole or by ranges, with the faults that the test asks for."""

    def do_GET(self):
        server = self.server
        server.asked.append(self.headers.get("Range"))
        if fault := next(server.statuses, None):
            self.send_response(fault)
            self.send_header("Retry-After", "0")
            self.end_headers()
            return
        start, content = 0, server.content
        if server.ranges and (range_ := self.headers.get("Range")):
            start, last = map(int, re.fullmatch(r"bytes=(\d+)-(\d+)", range_).groups())
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{last}/{len(content)}")
            content = content[: last + 1]
        else:
            self.send_response(200)
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        for place in range(start, len(content), 2**14):
            with server.lock:
                if server.drops and server.sent > server.drops[0]:
                    server.drops.pop(0)
                    return  # hangs up in the middle
                piece = bytearray(content[place : place + 2**14])
                if server.wrong is not None and place <= server.wrong < place + len(piece):
                    piece[server.wrong - place] ^= 255
                    server.wrong = None
                server.sent += len(piece)
            time.sleep(server.pace_s)
            try:
                self.wfile.write(piece)
            except OSError:
                return

    def log_message(self, *_):
        pass


@contextmanager
def serving(content, *, drops=(), wrong=None, ranges=True, statuses=()):
    """A server of `content` that hangs up after so many bytes in all (`drops`) and once sends a `wrong` byte there."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.content, server.drops, server.wrong, server.ranges = content, list(drops), wrong, ranges
    server.statuses, server.asked, server.sent, server.lock = iter(statuses), [], 0, threading.Lock()
    server.pace_s = 0.0  # between pieces of 16 KiB
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield server, f"http://127.0.0.1:{server.server_port}/musdb18hq.zip?download=1"
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture(scope="module")
def packed(make_song, tmp_path_factory):
    """(folder of six songs under MUSDB's names, the bytes of a zip of them)."""
    folder = tmp_path_factory.mktemp("hq")
    return folder / "songs", zip_of(folder, make_song, 1.0)


def zip_of(folder, make_song, seconds):
    """The bytes of a zip of six songs, which lie in `folder`/songs."""
    for seed, (subset, name) in enumerate((subset, name) for subset, names in NAMES.items() for name in names):
        make_song(folder / "songs" / subset / name, seconds + 0.1 * seed, seed=seed)
    with zipfile.ZipFile(folder / "hq.zip", "w", zipfile.ZIP_DEFLATED) as out:
        for file in sorted((folder / "songs").rglob("*.wav")):
            out.write(file, file.relative_to(folder / "songs"))
    return (folder / "hq.zip").read_bytes()


def archive_of(packed, url, songs=6):
    return Archive(url, len(packed), hashlib.sha256(packed).hexdigest(), songs, pause_s=0.001, timeout_s=5.0)


def songs_of(path):
    """{song: the bytes of its file} of a cache."""
    return {file.name: file.read_bytes() for file in sorted(path.glob("*.h5"))}


def manifest_of(path):
    return read_json(path / "manifest.json", "a manifest")


def fetched(root, source, profile="full", **options):
    """The folder of the cache that `fetch` filled."""
    sepkit.fetch(profile=profile, root=root, source=source, **{"n_jobs": 1, **options})
    return next(path for path in (root / "cache").iterdir() if len(manifest_of(path)["settings"]["sources"]) == 2)


@pytest.fixture
def served(packed):
    """(the archive on a server without faults, the server)."""
    with serving(packed[1]) as (server, url):
        yield archive_of(packed[1], url), server


def test_an_archive_behind_a_bad_connection_becomes_the_cache_of_its_songs(packed, tmp_path, capsys):
    songs, content = packed
    size = len(content)
    with serving(content, drops=[size // 5, size // 3, size // 2], wrong=size // 4) as (server, url):
        path = fetched(tmp_path / "root", archive_of(content, url))
        assert server.drops == []
        assert server.wrong is None
    said = capsys.readouterr().out
    assert len(re.findall(r"arrived wrong \(.*\); it is read again", said)) == 1
    assert sum(map(int, re.findall(r"connection was lost (\d) times", said))) == 3
    assert re.search(r"fetch 6/6 .* MB/s, 0 min left", said)
    assert re.search(r"2 stems at 44.1 kHz \d.*2 stems at 32 kHz .*4 stems at 32 kHz", said)
    assert re.search(r"at most [\d.]+ GB, of [\d.]+ GB free in ", said)
    assert not (tmp_path / "root" / "songs-in-progress").exists()
    expected = build_cache(find_songs(songs), Root.open(tmp_path / "other"), CacheSettings(), n_jobs=1)
    assert songs_of(path) == songs_of(expected.path)


def test_the_archive_is_the_published_one():
    torchaudio = pytest.importorskip("torchaudio.datasets.musdb_hq")
    assert MUSDB18_HQ.sha256 == torchaudio._CHECKSUM
    assert re.sub("/records?/", "/", torchaudio._URL) == re.sub("/records?/", "/", MUSDB18_HQ.url.split("?")[0])
    assert (MUSDB18_HQ.size, MUSDB18_HQ.songs) == (22656664047, 150)


def test_nothing_is_fetched_twice(served, tmp_path, capsys):
    source, server = served
    path = fetched(tmp_path, source)
    before, server.asked[:] = songs_of(path), []
    assert fetched(tmp_path, source) == path
    assert server.asked == []  # a whole cache needs no network
    damaged = track_file(path, "BKS - Too Much")
    damaged.write_bytes(damaged.read_bytes()[:-100])
    capsys.readouterr()
    fetched(tmp_path, source)
    assert len(server.asked) == 2  # the directory, and the song
    assert "fetch 1/1 BKS - Too Much (test)" in capsys.readouterr().out
    assert songs_of(path) == before


def test_training_songs_come_first_and_are_whole_before_the_test_songs(packed, tmp_path, capsys):
    content = packed[1]
    with serving(content, statuses=(0, 0, 0, 0, 404)) as (_, url), pytest.raises(SepkitError):
        fetched(tmp_path, archive_of(content, url))  # the last song lies beside the directory, in the same request
    said = re.findall(r"fetch \d/6 .* \((\w+)\)", capsys.readouterr().out)
    assert said == ["train", "train", "valid", "valid"]
    (path,) = (tmp_path / "cache").iterdir()
    assert manifest_of(path)["whole"] == ["train", "valid"]


def test_an_excluded_song_is_left_out_until_it_is_wanted(served, tmp_path):
    source, _ = served
    Root.open(tmp_path).path.joinpath("exclude.txt").write_text("AvaLuna - Waterduct  # noise\n")
    path = fetched(tmp_path, source)
    assert set(manifest_of(path)["without"]) == {"AvaLuna - Waterduct"}
    assert manifest_of(path)["whole"] == ["train", "valid", "test"]
    (tmp_path / "exclude.txt").unlink()
    fetched(tmp_path, source)
    assert len(songs_of(path)) == 6
    assert manifest_of(path)["without"] == {}


def test_a_server_without_ranges_is_told_with_what_to_do_by_hand(packed, tmp_path):
    with (
        serving(packed[1], ranges=False) as (_, url),
        pytest.raises(SepkitError, match=r"does not come in parts; download .* by hand"),
    ):
        fetched(tmp_path, archive_of(packed[1], url))


def test_an_archive_that_lies_here_needs_no_server(packed, tmp_path):
    file = tmp_path / "musdb18hq.zip"
    file.write_bytes(packed[1])
    source = archive_of(packed[1], "http://127.0.0.1:9/musdb18hq.zip")
    assert len(songs_of(fetched(tmp_path / "root", source, archive=file))) == 6
    assert file.exists()
    with pytest.raises(SepkitError, match=r"There is no archive .*none.zip; download http"):
        fetched(tmp_path / "other", source, archive=tmp_path / "none.zip")
    file.write_bytes(packed[1][:-1])
    with pytest.raises(SepkitError, match=rf"{file} has the SHA-256 .*, expected {source.sha256}; delete it"):
        fetched(tmp_path / "other", source, archive=file)


@pytest.mark.parametrize(
    ("faults", "tries"),
    [({"statuses": [403]}, 1), ({"statuses": [503] * TRIES}, TRIES), ({"statuses": [0, 404]}, 1)],
    ids=["refused", "down for long", "gone in the middle"],
)
def test_a_server_that_refuses_is_told_with_what_to_do_by_hand(packed, tmp_path, faults, tries):
    with serving(packed[1], **faults) as (_, url):
        told = rf"{re.escape(url)} can't be read \(HTTP Error \d+: .*; {tries} tries\).* the same command goes on"
        with pytest.raises(SepkitError, match=told + r".*download http.* by hand.*fetch --archive musdb18hq\.zip"):
            fetched(tmp_path, archive_of(packed[1], url))


def test_a_server_that_is_busy_for_a_while_is_waited_for(packed, tmp_path):
    with serving(packed[1], statuses=[503, 429, 0, 500, 502, 429]) as (_, url):
        assert len(songs_of(fetched(tmp_path, archive_of(packed[1], url)))) == 6


def test_no_server_at_all_is_told(tmp_path, capsys):
    source = Archive("http://127.0.0.1:9/musdb18hq.zip", 100, "", 6, pause_s=0.001)
    with pytest.raises(SepkitError, match=r"127.0.0.1:9/musdb18hq.zip can't be read \(.*refused.*; 8 tries\)"):
        fetched(tmp_path, source)
    told = capsys.readouterr().out.splitlines()
    assert [line for line in told if "refused" in line and "try 3 of 8 in" in line]
    assert len([line for line in told if line.startswith("no answer")]) == 6


def test_another_archive_is_refused(served, tmp_path):
    source, _ = served
    with pytest.raises(SepkitError, match=rf"has {source.size} bytes, expected {source.size + 1}: it is another file"):
        fetched(tmp_path, replace(source, size=source.size + 1))
    with pytest.raises(SepkitError, match="holds 6 songs and 30 files, expected 150 songs of 5 files"):
        fetched(tmp_path, replace(source, songs=150))


def test_a_file_that_is_wrong_on_the_server_is_named(packed, tmp_path):
    content = bytearray(packed[1])
    content[len(content) // 2] ^= 255
    told = r" - .*: \w+.wav arrived wrong .*, 8 times; download http.* by hand"
    with serving(bytes(content)) as (_, url), pytest.raises(SepkitError, match=told):
        fetched(tmp_path, archive_of(bytes(content), url))


def test_songs_that_do_not_fit_are_refused_before_the_first(served, tmp_path, monkeypatch):
    source, server = served
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=10**6))
    with pytest.raises(SepkitError, match=r"need 0\.0\d GB, but .* has 0\.00 GB free; .*full-32k"):
        fetched(tmp_path, source)
    assert len(server.asked) == 1


def test_the_four_stems_are_cached_beside_the_two(served, packed, tmp_path):
    source, server = served
    fetched(tmp_path, source, stems=True)
    assert len(server.asked) == 6  # the directory with the last song, and five songs
    four = build_cache(find_songs(packed[0]), Root.open(tmp_path / "other"), CacheSettings(sources=STEMS), n_jobs=1)
    paths = [path for path in (tmp_path / "cache").iterdir() if path.name != four.path.name]
    found = {len(manifest_of(path)["settings"]["sources"]): songs_of(path) for path in paths}
    assert found[4] == songs_of(four.path)
    assert len(found[2]) == 6


def test_the_32_khz_profile_caches_songs_at_32_khz(served, packed, tmp_path):
    path = fetched(tmp_path, served[0], profile="full-32k")
    settings = CacheSettings(sample_rate=32000)
    assert songs_of(path) == songs_of(
        build_cache(find_songs(packed[0]), Root.open(tmp_path / "other"), settings, n_jobs=1).path
    )


def test_where_songs_are_given_or_made_nothing_is_fetched(served, mini_songs, tmp_path, monkeypatch, capsys):
    source, server = served
    sepkit.fetch(profile="full", root=tmp_path, data=mini_songs, source=source)
    monkeypatch.setattr(locate, "make_demo_songs", lambda folder: mini_songs)
    sepkit.fetch(profile="demo", root=tmp_path, source=source)
    assert not (tmp_path / "cache").exists()
    monkeypatch.setattr(locate, "download_preview", lambda folder: mini_songs)
    monkeypatch.setattr(building, "spread", lambda calls, **_: spread(calls, n_jobs=1))
    sepkit.fetch(profile="preview", root=tmp_path, source=source)
    (path,) = (tmp_path / "cache").iterdir()
    assert manifest_of(path)["whole"] == ["train", "valid", "test"]
    assert server.asked == []
    assert "nothing is fetched" in capsys.readouterr().out


@pytest.fixture
def on_drive(tmp_path, monkeypatch):
    """Drive, with packs of two songs."""
    monkeypatch.setenv("SEPKIT_DRIVE", str(tmp_path / "drive" / "full"))
    (tmp_path / "drive").mkdir()
    monkeypatch.setattr(packs, "PACK_ABOVE", 0)
    for module in (packs, fetching):
        monkeypatch.setattr(module, "PACK_BYTES", 800_000)
    return tmp_path / "drive" / "full" / "cache"


def test_the_cache_goes_to_drive_while_it_grows_and_a_fresh_root_goes_on_from_there(packed, tmp_path, on_drive, capsys):
    content = packed[1]
    with serving(content, statuses=(0, 0, 0, 0, 404)) as (_, url), pytest.raises(SepkitError):
        fetched(tmp_path / "first", archive_of(content, url))  # four songs arrive
    assert len(list(on_drive.glob("*/train-*.zip"))) >= 1
    with serving(content) as (server, url):
        path = fetched(tmp_path / "second", archive_of(content, url))
    assert len(server.asked) < 6
    with serving(content) as (server, url):
        again = fetched(tmp_path / "third", archive_of(content, url))
    assert server.asked == []  # all of it comes from Drive
    assert songs_of(again) == songs_of(path)
    assert len(songs_of(path)) == 6
    assert not (tmp_path / "third" / "songs-in-progress").exists()
    next(on_drive.glob("*/train-*.zip")).unlink()
    with serving(content) as (server, url):
        assert songs_of(fetched(tmp_path / "fourth", archive_of(content, url))) == songs_of(path)
    assert 1 < len(server.asked) < 6  # the songs of the lost pack
    assert "on Drive" in capsys.readouterr().out


def killed(call, server, seconds):
    """Runs `call` in a process of its own and kills it `seconds` after it asked for a song; whether it still ran."""
    process, before = multiprocessing.get_context("fork").Process(target=call), len(server.asked)
    process.start()
    while process.is_alive() and len(server.asked) < before + 2:
        time.sleep(0.01)
    process.join(seconds)
    if alive := process.is_alive():
        os.kill(process.pid, signal.SIGKILL)
    process.join()
    return alive


def check_kills(packed, tmp_path, kills, n_jobs):
    content, pick = packed[1], random.Random(kills)
    with serving(content) as (server, url):
        whole, source = fetched(tmp_path / "whole", archive_of(content, url)), archive_of(content, url)
        server.asked[:], server.pace_s = [], 0.004
        died = 0

        def call():
            reusable_executor._executor = None  # a fork's: the workers that earlier tests left are its parent's
            fetched(tmp_path / "root", source, n_jobs=n_jobs)

        while died < kills and killed(call, server, pick.uniform(0, 0.5)):
            died += 1
        server.pace_s = 0.0
        path = fetched(tmp_path / "root", source, n_jobs=n_jobs)
    print(f"{died} kills, {len(server.asked)} requests")
    assert died > 0
    assert songs_of(path) == songs_of(whole)
    assert (path / "manifest.json").read_bytes() == (whole / "manifest.json").read_bytes()
    # a directory a call, and each song once but those in progress at a kill
    assert len(server.asked) <= (died + 1) + 6 + died * n_jobs


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_kill_costs_the_song_in_progress(packed, tmp_path):
    check_kills(packed, tmp_path, 2, 1)


@pytest.mark.long
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_many_kills_at_random_instants(packed, tmp_path):
    check_kills(packed, tmp_path, 8, 2)


def run_cells(day, **parameters):
    """Runs the code cells of a day's notebook in this process, but for its setup cell."""
    (file,) = (Path(__file__).parents[2] / "notebooks").glob(f"day{day}_*.ipynb")
    space = {"__name__": "__main__", "display": lambda *_: None}
    for cell in json.loads(file.read_text(encoding="utf-8"))["cells"]:
        tags, source = cell["metadata"].get("tags", []), "".join(cell["source"])
        if cell["cell_type"] == "code" and "drive_setup" not in source:
            exec(compile(source, f"{file.name}: {cell['id']}", "exec"), space)
            space.update(parameters if "parameters" in tags else {})


@pytest.mark.long
@pytest.mark.timeout(900)
def test_days_1_6_and_7_work_from_the_cache_on_drive_alone(make_song, tiny, tmp_path, on_drive, monkeypatch, capsys):
    """A fresh root, no songs, and an archive that can't be reached."""
    content = zip_of(tmp_path / "hq", make_song, 4.0)
    with serving(content, drops=[len(content) // 3], wrong=len(content) // 4) as (_, url):
        fetched(tmp_path / "first", archive_of(content, url), n_jobs=2)
    monkeypatch.setitem(PROFILES, "full", replace(tiny, name="full", songs_from="given", sample_rate=44100))
    matplotlib.use("agg")
    root = tmp_path / "fresh"
    for day in (1, 6, 7):
        run_cells(day, profile="full", root=str(root))
    assert "songs: 6 in the cache" in capsys.readouterr().out
    assert len(Root.open(root).run("Base-s0").scores()["track"].unique()) == 2
    assert (root / "report" / "milestone2.html").stat().st_size > 50_000
    assert not (root / "songs").exists()
