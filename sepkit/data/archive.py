"""A published zip of songs, read where it lies: on its server by HTTP ranges, or in a file that was put here by hand.

zipfile reads through `RemoteFile`.  One request delivers all bytes of a song; another one is sent where the connection
broke, and where zipfile jumps: servers count requests (Zenodo allows 60 a minute).  Waits are bounded:
after `TRIES` failures in a row, each with a longer pause, a SepkitError says what to do by hand.
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
from urllib.parse import urlsplit
from urllib.request import Request, urlopen
from zipfile import BadZipFile, ZipFile, ZipInfo

from sepkit.data.songs import SPLITS, Track, musdb_validation_names
from sepkit.errors import SepkitError
from sepkit.profiles import STEMS

TRIES = 8
LONGEST_WAIT_S = 120.0
PASSING = (408, 425, 429, 500, 502, 503, 504)  # HTTP statuses after which the same request may succeed
PIECE = 2**20  # bytes read at once
DIRECTORY = 2**20  # bytes at a zip's end that hold its directory (750 files: 0.1 MB)
FILES = ("mixture", *STEMS)


@dataclass(frozen=True)
class Archive:
    """A zip with {train,test}/<song>/{mixture,vocals,drums,bass,other}.wav; `file` is a copy of it on this disk."""

    url: str
    size: int  # bytes
    sha256: str
    songs: int
    file: Path | None = None
    tail: bytes = field(default=b"", repr=False)  # its last bytes, where they are known: the zip's directory
    wait_s: float = 1.0  # before the second try; each further pause is twice as long
    timeout_s: float = 30.0  # without a byte

    @property
    def name(self) -> str:
        return PurePosixPath(urlsplit(self.url).path).name

    @property
    def by_hand(self) -> str:
        return f"download {self.name} by hand and give its place: python -m sepkit fetch --archive {self.name}"

    def open(self, stop: int | None = None) -> io.BufferedReader:
        """Its bytes, seekable; of a remote one nothing is read yet, and at first only bytes before `stop` are asked for."""
        return self.file.open("rb") if self.file else io.BufferedReader(RemoteFile(self, stop), PIECE)


# as torchaudio.datasets.MUSDB_HQ has it
MUSDB18_HQ = Archive(
    "https://zenodo.org/records/3338373/files/musdb18hq.zip?download=1",
    size=22_656_664_047,
    sha256="baac80d0483c61d74b2e5f3be75fa557eec52898339e6aa45c1fa48833c5d21d",
    songs=150,
)


class NoRanges(SepkitError):
    """The server sends the whole file only."""


class RemoteFile(io.RawIOBase):
    """The bytes of a file on a server; `breaks` counts the connections that were lost."""

    def __init__(self, archive: Archive, stop: int | None = None) -> None:
        self.archive, self.stop, self.breaks, self._place = archive, stop or archive.size, 0, 0
        self._patience, self._next = Patience(archive), 0
        self._stream: Any = None

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._place

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._place = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._place, io.SEEK_END: self.archive.size}[whence]
        return self._place

    def readinto(self, buffer: Any) -> int:
        known = self.archive.size - len(self.archive.tail)
        if self._place >= known:
            data = self.archive.tail[self._place - known :][: len(buffer)]
        else:
            if self._place >= self.stop:
                self.stop = known
            data = self._receive(min(len(buffer), self.stop - self._place))
        buffer[: len(data)] = data
        self._place += len(data)
        return len(data)

    def close(self) -> None:
        self._hang_up()
        super().close()

    def _receive(self, count: int) -> bytes:
        while True:
            try:
                if self._stream is None or self._next != self._place:
                    self._hang_up()
                    self._stream, self._next = ask(self.archive, self._place, self.stop), self._place
                if data := self._stream.read1(count):
                    self._next += len(data)
                    self._patience.failures = 0
                    return data
                raise ConnectionError("the connection ended early")
            except (OSError, HTTPException) as error:
                self._hang_up()
                self.breaks += 1
                self._patience.wait(error)

    def _hang_up(self) -> None:
        if self._stream is not None:
            self._stream.close()
        self._stream = None


class Patience:
    """Pauses after failures, twice as long each time, and gives up after TRIES in a row."""

    def __init__(self, archive: Archive) -> None:
        self.archive, self.failures = archive, 0

    def wait(self, error: Exception) -> None:
        """Sleeps before the next try; SepkitError where there is no point in one."""
        self.failures += 1
        status = error.code if isinstance(error, HTTPError) else None
        if self.failures == TRIES or (status is not None and status not in PASSING):
            raise SepkitError(
                f"{self.archive.url} can't be read ({error or type(error).__name__}, {self.failures} tries); what is "
                f"fetched is kept, and the same command goes on from there. Else {self.archive.by_hand}."
            ) from error
        told = error.headers.get("Retry-After", "") if isinstance(error, HTTPError) else ""
        pause = self.archive.wait_s * 2 ** (self.failures - 1)
        time.sleep(min(max(pause, float(told) if told.isdigit() else 0.0), LONGEST_WAIT_S))


def ask(archive: Archive, start: int, stop: int) -> Any:
    """The server's answer with these bytes; NoRanges where it sends others, SepkitError for another file."""
    headers = {"Range": f"bytes={start}-{stop - 1}", "User-Agent": "sepkit"}
    answer = urlopen(Request(archive.url, headers=headers), timeout=archive.timeout_s)
    first, _, total = answer.headers.get("Content-Range", "").removeprefix("bytes ").partition("/")
    if answer.status != 206 or not first.startswith(f"{start}-"):
        answer.close()
        raise NoRanges(f"{archive.url} does not come in parts (status {answer.status}); {archive.by_hand}.")
    if total not in (str(archive.size), "*"):
        answer.close()
        raise SepkitError(
            f"{archive.url} is another file: expected {archive.size} bytes, found {total}; {archive.by_hand}, with the "
            f"SHA-256 {archive.sha256}."
        )
    return answer


def located(archive: Archive, folder: Path, file: Path | None = None) -> Archive:
    """The archive, ready to be read: `file`, else its server's, else (without ranges) downloaded whole into `folder`."""
    if file is not None:
        return replace(archive, file=verified(archive, file))
    with RemoteFile(archive) as remote:
        remote.seek(max(0, archive.size - DIRECTORY))
        try:
            return replace(archive, tail=io.BufferedReader(remote, PIECE).read())
        except NoRanges:
            print(f"{archive.url} does not come in parts: the whole file is downloaded first", flush=True)
    return replace(archive, file=download(archive, folder / archive.name))


def download(archive: Archive, file: Path) -> Path:
    """The whole archive at `file`, continued where the server allows it, and verified."""
    patience = Patience(archive)
    while (have := file.stat().st_size if file.exists() else 0) != archive.size:
        try:
            try:
                answer = ask(archive, have, archive.size)
            except NoRanges:
                answer, have = urlopen(archive.url, timeout=archive.timeout_s), 0
            with answer, file.open("ab" if have else "wb") as out:
                shutil.copyfileobj(answer, out, PIECE)
            if file.stat().st_size != archive.size:
                raise ConnectionError(f"{file.stat().st_size} of {archive.size} bytes arrived")
        except (OSError, HTTPException) as error:
            patience.wait(error)
    return verified(archive, file)


def verified(archive: Archive, file: Path) -> Path:
    """`file`, whose size and SHA-256 are the archive's; SepkitError otherwise."""
    again = f"download it again from {archive.url}"
    if not file.is_file():
        raise SepkitError(f"There is no file {file}; {again}.")
    if file.stat().st_size != archive.size:
        raise SepkitError(
            f"{file} is not {archive.name}: expected {archive.size} bytes, found {file.stat().st_size}; {again}."
        )
    print(f"verifying the SHA-256 of {file}", flush=True)
    with file.open("rb") as content:
        found = hashlib.file_digest(content, "sha256").hexdigest()
    if found != archive.sha256:
        raise SepkitError(
            f"{file} is not {archive.name}: expected the SHA-256 {archive.sha256}, found {found}; {again}."
        )
    return file


@dataclass(frozen=True)
class Packed:
    """A song in an archive; `members` in the order in which they lie there, all before byte `stop`."""

    name: str
    split: str
    members: tuple[ZipInfo, ...]
    stop: int

    def track(self, folder: Path) -> Track:
        return Track(self.name, self.split, folder, "wav")

    @property
    def packed_bytes(self) -> int:
        return sum(member.compress_size for member in self.members)

    @property
    def wav_bytes(self) -> int:
        return sum(member.file_size for member in self.members)


def packed_songs(archive: Archive) -> list[Packed]:
    """Its songs: training, validation, test; SepkitError where a song or file is missing."""
    found: dict[tuple[str, str], dict[str, ZipInfo]] = {}
    with archive.open() as file, ZipFile(file) as content:
        starts = sorted(member.header_offset for member in content.infolist())
        for member in content.infolist():
            path = PurePosixPath(member.filename)
            if (
                len(path.parts) >= 3
                and path.parts[-3] in ("train", "test")
                and path.stem in FILES
                and path.suffix == ".wav"
            ):
                found.setdefault((path.parts[-3], path.parts[-2]), {})[path.stem] = member
    lacking = [f"{song}: {file}.wav" for (_, song), files in found.items() for file in FILES if file not in files]
    if lacking or len(found) != archive.songs:
        lack = f"{len(found)} songs" + (f", and {lacking[0]} is missing" if lacking else "")
        raise SepkitError(f"{archive.url} holds {lack}; expected {archive.songs} songs of 5 files. {archive.by_hand}.")
    validation = musdb_validation_names()
    after = dict(zip(starts, [*starts[1:], archive.size], strict=True))
    songs = []
    for (subset, name), files in found.items():
        members = tuple(sorted(files.values(), key=lambda member: member.header_offset))
        split = "valid" if subset == "train" and name in validation else subset
        songs.append(Packed(name, split, members, after[members[-1].header_offset]))
    return sorted(songs, key=lambda song: (SPLITS.index(song.split), song.members[0].header_offset))


def unpack(archive: Archive, song: Packed, folder: Path) -> list[str]:
    """Writes the WAV files of `song` into `folder`, each checked by its CRC-32; returns lines about what went wrong.

    A file that arrived wrong is read again; SepkitError after TRIES.
    """
    notes = []
    folder.mkdir(parents=True, exist_ok=True)
    with archive.open(song.stop) as file, ZipFile(file) as content:
        for member in song.members:
            name = PurePosixPath(member.filename).name
            for attempt in range(1, TRIES + 1):
                try:
                    with content.open(member) as source, (folder / name).open("wb") as out:
                        shutil.copyfileobj(source, out, PIECE)
                    break
                except (BadZipFile, zlib.error, EOFError) as error:
                    notes.append(f"{song.name}: {name} arrived wrong ({error}); it is read again")
                    if attempt == TRIES:
                        raise SepkitError(
                            f"{song.name}: {name} of {archive.url} arrived wrong {TRIES} times; {archive.by_hand}."
                        ) from error
        if breaks := getattr(getattr(file, "raw", None), "breaks", 0):
            notes.append(f"{song.name}: the connection was lost {breaks} times and continued")
    return notes
