"""A published zip of songs, read where it lies: on its server by HTTP ranges, or in a file that was put here by hand.

One request delivers a whole song, since servers count them (Zenodo allows 60 a minute); another goes on where one broke.
"""

import hashlib
import io
import shutil
import time
import zlib
from dataclasses import dataclass, field, replace
from http.client import HTTPException
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen
from zipfile import BadZipFile, ZipFile, ZipInfo

from sepkit.data.layouts import musdb_song
from sepkit.data.songs import musdb_validation_names
from sepkit.data.tracks import SPLITS, Track
from sepkit.errors import SepkitError
from sepkit.profiles import STEMS

TRIES, LONGEST_PAUSE_S = 8, 120.0
PASSING = (408, 425, 429, 500, 502, 503, 504)  # HTTP statuses after which the same request may succeed
PIECE = 2**20  # bytes: read at once; and at a zip's end, those that hold its directory


@dataclass(frozen=True)
class Archive:
    """A zip with {train,test}/<song>/{mixture,vocals,drums,bass,other}.wav; `file`: a copy of it on this disk."""

    url: str
    size: int  # bytes
    sha256: str
    songs: int
    file: Path | None = None
    tail: bytes = field(default=b"", repr=False)  # its last bytes, with the zip's directory, once they are read
    pause_s: float = 1.0  # before the second try; each further pause is twice as long
    timeout_s: float = 30.0  # without a byte

    @property
    def by_hand(self) -> str:
        return f"download {self.url} by hand, into any folder, and give the file: python -m sepkit fetch --archive musdb18hq.zip"

    def open(self, stop: int) -> Any:
        """Its bytes, to be sought and read; of a remote one those before `stop` come with one request."""
        return self.file.open("rb") if self.file else io.BufferedReader(_Remote(self, stop), PIECE)

    def pause(self, failures: int, error: Exception) -> None:
        """Waits before the next try; SepkitError after TRIES failures in a row, or where a next try is pointless."""
        status = error.code if isinstance(error, HTTPError) else PASSING[0]
        why = str(error if isinstance(error, HTTPError) else getattr(error, "reason", error)) or type(error).__name__
        if failures == TRIES or status not in PASSING:
            kept = "the songs that are fetched are kept and the same command goes on"
            raise SepkitError(
                f"{self.url} can't be read ({why}; {failures} tries); {kept}. Or {self.by_hand}."
            ) from error
        told = error.headers.get("Retry-After", "") if isinstance(error, HTTPError) else ""
        pause = min(max(self.pause_s * 2 ** (failures - 1), float(told) if told.isdigit() else 0.0), LONGEST_PAUSE_S)
        if failures > 1:  # a single lost connection is told with its song
            print(f"no answer ({why}); try {failures + 1} of {TRIES} in {pause:.0f} s", flush=True)
        time.sleep(pause)


MUSDB18_HQ = Archive(  # SHA-256 as in torchaudio.datasets.MUSDB_HQ
    "https://zenodo.org/records/3338373/files/musdb18hq.zip?download=1",
    size=22_656_664_047,
    sha256="baac80d0483c61d74b2e5f3be75fa557eec52898339e6aa45c1fa48833c5d21d",
    songs=150,
)


class _Remote(io.RawIOBase):
    """An archive on its server, as a file; `breaks` counts the connections that were lost."""

    def __init__(self, archive: Archive, stop: int) -> None:
        self.archive, self.stop, self.place, self.next, self.breaks, self.failures = archive, stop, 0, 0, 0, 0
        self.answer: Any = None

    def readable(self) -> bool:
        return True

    seekable = readable

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self.place = offset + (0, self.place, self.archive.size)[whence]
        return self.place

    def readinto(self, buffer: Any) -> int:
        known = self.archive.size - len(self.archive.tail)
        data = self.archive.tail[self.place - known :][: len(buffer)] if self.place >= known else self._get(len(buffer))
        buffer[: len(data)] = data
        self.place += len(data)
        return len(data)

    def _get(self, count: int) -> bytes:
        while True:
            try:
                if self.answer is None or self.next != self.place:
                    self._ask()
                if data := self.answer.read1(min(count, self.stop - self.place)):
                    self.next, self.failures = self.place + len(data), 0
                    return data
                raise ConnectionError("the connection ended early")
            except (OSError, HTTPException) as error:
                self.answer, self.breaks, self.failures = None, self.breaks + 1, self.failures + 1
                self.archive.pause(self.failures, error)

    def _ask(self) -> None:
        """Requests the bytes from `place` to `stop`; SepkitError where the server sends others, or has another file."""
        if self.place >= self.stop:
            self.stop = self.archive.size
        headers = {"Range": f"bytes={self.place}-{self.stop - 1}", "User-Agent": "sepkit"}
        answer = urlopen(Request(self.archive.url, headers=headers), timeout=self.archive.timeout_s)
        start, _, total = answer.headers.get("Content-Range", "").removeprefix("bytes ").partition("/")
        if answer.status != 206 or not start.startswith(f"{self.place}-"):
            raise SepkitError(f"{self.archive.url} does not come in parts; {self.archive.by_hand}.")
        if total != str(self.archive.size):
            size = self.archive.size
            raise SepkitError(f"{self.archive.url} has {total} bytes, expected {size}: it is another file.")
        self.answer, self.next = answer, self.place


def located(archive: Archive, file: Path | None = None) -> Archive:
    """The archive, ready to be read: `file`, else in place; SepkitError where its server sends whole files only."""
    if file is None:
        remote = archive.open(archive.size)
        remote.seek(max(0, archive.size - PIECE))
        return replace(archive, tail=remote.read())
    print(f"verifying {file}", flush=True)
    if not file.is_file():
        raise SepkitError(f"There is no archive {file}; {archive.by_hand}.")
    with file.open("rb") as content:
        found = hashlib.file_digest(content, "sha256").hexdigest()
    if found != archive.sha256:
        fix = f"delete it, and {archive.by_hand}"
        raise SepkitError(f"{file} has the SHA-256 {found}, expected {archive.sha256}; {fix}.")
    return replace(archive, file=file)


@dataclass(frozen=True)
class Packed:
    """A song in an archive: its files, in the order in which they lie there, end before byte `stop`."""

    name: str
    split: str
    members: tuple[ZipInfo, ...]
    stop: int
    packed_bytes: int
    wav_bytes: int

    def track(self, folder: Path) -> Track:
        return musdb_song(self.name, self.split, folder)


def packed_songs(archive: Archive) -> list[Packed]:
    """The archive's songs: training, validation, test; SepkitError where it holds others than it should."""
    files: dict[tuple[str, str], list[ZipInfo]] = {}
    with archive.open(archive.size) as file, ZipFile(file) as content:
        entries = sorted(content.infolist(), key=lambda entry: entry.header_offset)
    stops = [*(entry.header_offset for entry in entries[1:]), archive.size]
    ends, validation, songs = dict(zip(map(id, entries), stops, strict=True)), musdb_validation_names(), []
    for entry in entries:
        subset, name, stem = ("", "", *PurePosixPath(entry.filename).parts)[-3:]
        if subset in ("train", "test") and stem.removesuffix(".wav") in ("mixture", *STEMS):
            files.setdefault((subset, name), []).append(entry)
    for (subset, name), members in files.items():
        split = "valid" if subset == "train" and name in validation else subset
        sizes = (sum(entry.compress_size for entry in members), sum(entry.file_size for entry in members))
        songs.append(Packed(name, split, tuple(members), ends[id(members[-1])], *sizes))
    if len(songs) != archive.songs or {len(song.members) for song in songs} != {5}:
        held = f"{len(songs)} songs and {sum(map(len, files.values()))} files"
        raise SepkitError(f"{archive.url} holds {held}, expected {archive.songs} songs of 5 files; {archive.by_hand}.")
    return sorted(songs, key=lambda song: (SPLITS.index(song.split), song.stop))


def unpack(archive: Archive, song: Packed, folder: Path) -> list[str]:
    """Writes the WAV files of `song` into `folder`; one that arrives wrong is read again.  Returns what went wrong."""
    notes = []
    folder.mkdir(parents=True, exist_ok=True)
    with archive.open(song.stop) as file, ZipFile(file) as content:
        for entry in song.members:
            name = PurePosixPath(entry.filename).name
            for attempt in range(1, TRIES + 1):
                try:
                    with content.open(entry) as source, (folder / name).open("wb") as out:
                        shutil.copyfileobj(source, out, PIECE)
                    break
                except (BadZipFile, zlib.error, EOFError) as error:
                    notes.append(f"{song.name}: {name} arrived wrong ({error}); it is read again")
                    if attempt == TRIES:
                        raise SepkitError(f"{notes[-1]}, {TRIES} times; {archive.by_hand}.") from error
        if archive.file is None and file.raw.breaks:
            notes.append(f"{song.name}: the connection was lost {file.raw.breaks} times, and the song went on")
    return notes
