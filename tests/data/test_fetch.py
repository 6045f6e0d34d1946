"""Songs out of a remote archive into the cache: a server that breaks, lies and stalls; kills; what is told."""

import hashlib
import http.server
import itertools
import re
import shutil
import threading
import zipfile
from contextlib import contextmanager
from dataclasses import replace

import h5py
import numpy as np
import pytest

import sepkit
from sepkit.data import archive as module
from sepkit.data.archive import MUSDB18_HQ, Archive, RemoteFile
from sepkit.data.build import build_cache
from sepkit.data.cache import CacheSettings
from sepkit.data.songs import find_songs, musdb_validation_names
from sepkit.errors import SepkitError

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
    for seed, (subset, name) in enumerate((subset, name) for subset, names in NAMES.items() for name in names):
        make_song(folder / "songs" / subset / name, 1.0 + 0.1 * seed, seed=seed)
    with zipfile.ZipFile(folder / "hq.zip", "w", zipfile.ZIP_DEFLATED) as out:
        for file in sorted((folder / "songs").rglob("*.wav")):
            out.write(file, file.relative_to(folder / "songs"))
    return folder / "songs", (folder / "hq.zip").read_bytes()


def archive_of(content, url, songs=6):
    return Archive(url, len(content), hashlib.sha256(content).hexdigest(), songs, wait_s=0.01, timeout_s=5.0)


def content_of(path):
    """{file: bytes} of a cache's songs, and its manifest."""
    return {file.name: file.read_bytes() for file in sorted(path.iterdir()) if file.name[0] != "."}


def fetched(root, source, **options):
    sepkit.fetch(profile="full", root=root, source=source, **{"n_jobs": 1, **options})
    (path,) = sorted((root / "cache").iterdir())[:1]
    return path


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
    assert re.search(r"at most, of [\d.]+ GB free in ", said)
    assert float(re.search(r"the disk held at most ([\d.]+) GB", said)[1]) < 0.02
    assert not (tmp_path / "root" / "songs-in-progress").exists()
    expected = build_cache(find_songs(songs), sepkit.storage.Root.open(tmp_path / "other"), CacheSettings(), n_jobs=1)
    found = content_of(path)
    assert {name: found[name] for name in found if name.endswith(".h5")} == {
        name: data for name, data in content_of(expected.path).items() if name.endswith(".h5")
    }
