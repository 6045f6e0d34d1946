"""Audio files: what their headers promise, where they break off, their samples.  soundfile reads them, else ffmpeg."""

import io
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import soundfile as sf

from sepkit.errors import SepkitError

FFMPEG = (".m4a", ".mp4", ".aac", ".wma", ".wv")  # endings of files that ffmpeg reads
LOSSY = (".ogg", ".opus", ".mp3", ".m4a", ".mp4", ".aac", ".wma")
AUDIO = (".wav", ".wave", ".flac", ".aif", ".aiff", ".w64", ".rf64", ".ogg", ".opus", ".mp3", *FFMPEG)  # best first
GET_FFMPEG = "install ffmpeg (apt-get install ffmpeg) or use songs in the WAV layout, which does not need it"
# libsndfile's words about a header that promises more bytes, or (RF64) samples, than the file has
PROMISED_BYTES = re.compile(r"^ *(?:data|SSND|riff|Data Size) *: (\d+) \(should be (\d+)\)", re.MULTILINE)
PROMISED_SAMPLES = re.compile(r"'ds64' chunk of (\d+)")
PIPED = (0x7F000000, 0x7FFFFFFF, 0xFFFFFFFF)  # lengths, or a header less, that stand for an unknown one
TAGS = 2**14  # bytes after the sound of an MP3 file
ENDLESS = 2**62  # a FLAC file without a length reads as about twice as many samples


class BadSound(SepkitError):
    """A file that can't be used; kind: in two words, as the check of songs names it; found: what was found in its place."""

    def __init__(self, message: str, kind: str = "unreadable", found: str = "no audio") -> None:
        super().__init__(message)
        self.kind, self.found = kind, found


def on_disk(file: Path) -> str | bytes:
    """`file` as soundfile opens it: its text has to be UTF-8, but on Unix it may have any bytes."""
    return str(file) if os.name == "nt" else os.fsencode(file)


def missing_decoders() -> str:
    """What reading .m4a and .stem.mp4 needs and is not on the PATH; "" where all is."""
    return " and ".join(tool for tool in ("ffmpeg", "ffprobe") if shutil.which(tool) is None)


def require_ffmpeg(what: str = ".stem.mp4") -> None:
    if missing := missing_decoders():
        raise SepkitError(f"Reading {what} files needs {missing} on the PATH, found none; {GET_FFMPEG}.")


def read_sound(path: Path, start: int = 0, stop: int | None = None) -> tuple[np.ndarray, int]:
    """All streams of a file, float32 (stream, channel, time), from sample start to stop, and their rate in Hz."""
    if path.suffix.casefold() not in FFMPEG:
        with Sound(path) as sound:
            return sound.samples(start, stop)[None], sound.samplerate
    require_ffmpeg(path.suffix.casefold())
    import stempeg

    try:
        streams, rate = stempeg.read_stems(str(path), ffmpeg_format="s16le", always_3d=True)  # (stream, time, channel)
    except Exception as error:  # stempeg and ffmpeg raise whatever they like
        raise BadSound(f"{path} is no audio that ffmpeg can read ({type(error).__name__}); copy it again.") from error
    if streams.shape[2] > 2:
        raise BadSound(f"{path} has {streams.shape[2]} channels; expected sound in 1 or 2.", "channels")
    return np.ascontiguousarray(np.moveaxis(streams, 1, 2)[..., start:stop], dtype=np.float32), int(rate)


def extent(path: Path) -> tuple[int, int]:
    """(samples, rate in Hz) by the header; 0 samples where that does not tell."""
    try:
        if path.suffix.casefold() in FFMPEG:
            import stempeg

            info = stempeg.Info(str(path))
            return int(info.duration(0) * info.sample_rate(0)), info.sample_rate(0)
        with Sound(path) as sound:
            return sound.there or 0, sound.samplerate
    except Exception:  # as above; reading the file names the fault
        return 0, 1


class Sound(sf.SoundFile):
    """A file opened for reading; BadSound for one that is absent, no sound in 1 or 2 channels, or cut short.

    n_samples: what the header promises, None where it has no length, as programs that write into a pipe leave it: such a
    file is read to its end; there: what there is, None where only reading tells.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.n_samples, self.file = path, None, None
        if not path.is_file() or not path.stat().st_size:
            found = "0 bytes" if path.is_file() else "a folder" if path.is_dir() else "no such file"
            fault = f"{path} is {'empty' if path.is_file() else found}" if path.exists() else f"There is no file {path}"
            raise BadSound(f"{fault}; give WAV or FLAC files.", found=found)
        try:
            place = _unwritten_length(path)
            mp3 = path.suffix.casefold() == ".mp3"
            self.file = io.FileIO(path) if mp3 else None if place is None else _Endless(path, place)
            super().__init__(self.file or on_disk(path))
        except (RuntimeError, OSError) as error:
            reason = str(error).split(": ", 1)[-1] or "Error in its header."  # without the name in bytes
            message = f"{path} is not audio that can be read here ({reason}); convert it to WAV."
            raise BadSound(message, found=f"{path.stat().st_size} bytes, not audio") from error
        there = self.frames  # libsndfile's count of what there is
        self.there = there if there < ENDLESS else None
        if samples := PROMISED_SAMPLES.search(self.extra_info):
            self.n_samples = int(samples[1])
        elif promised := PROMISED_BYTES.search(self.extra_info):
            if not any(0 <= length - int(promised[1]) < 4200 for length in PIPED):
                self.n_samples = there * int(promised[1]) // int(promised[2])
        elif there < ENDLESS and place is None:
            self.n_samples = there
        if self.n_samples == 0 or self.channels > 2:
            kind, found = "channels" if self.n_samples else "empty file", f"{there} samples in {self.channels} channels"
            raise BadSound(f"{path} has {found}; expected sound in 1 or 2.", kind, found)
        self._require_whole(there)

    def seekable(self) -> bool:
        """soundfile would seek after each block, which fails at the end of a FLAC file without a length."""
        return False

    def close(self) -> None:
        super().close()
        if self.file is not None:
            self.file.close()

    def samples(self, start: int = 0, stop: int | None = None) -> np.ndarray:
        """float32 (channel, time)."""
        if stop is None:
            return np.ascontiguousarray(np.concatenate(list(self.blocks(1.0)), axis=1)[:, start:])
        sf.SoundFile.seek(self, start)
        return np.ascontiguousarray(self.read(stop - start, dtype="float32", always_2d=True).T)

    def blocks(self, seconds: float) -> Iterator[np.ndarray]:
        """All samples, float32 (channel, time); SepkitError where the file breaks off."""
        done = 0
        try:
            while len(block := self.read(max(1, round(seconds * self.samplerate)), dtype="float32", always_2d=True)):
                done += len(block)
                yield block.T
        except RuntimeError as error:
            where = f"at {sf.SoundFile.seek(self, 0, os.SEEK_CUR) / self.samplerate:.2f} s"
            message = f"{self.path} is cut short or damaged {where} ({error}); copy it again."
            raise BadSound(message, "truncated", where) from error
        if done == 0:
            raise BadSound(f"{self.path} has 0 samples; expected sound.", "empty file", "0 samples")
        if self.format != "MP3":  # whose length is estimated, and libsndfile reads no further
            self._require_whole(done)
        elif self.file and (left := self.path.stat().st_size - self.file.tell()) > TAGS:
            after = f"{left} bytes after the {done / self.samplerate:.2f} s that can be read here"
            raise BadSound(f"{self.path} goes on for {after}; convert it to WAV.", "truncated", f"{done}")

    def _require_whole(self, n_samples: int) -> None:
        if self.n_samples and n_samples < self.n_samples:
            promised, there = (f"{n / self.samplerate:.2f} s" for n in (self.n_samples, n_samples))
            message = f"{self.path} is cut short: its header promises {promised}, it ends at {there}; copy it again."
            raise BadSound(message, "truncated", f"{n_samples}")


def _unwritten_length(path: Path) -> int | None:
    """Where a WAV file says that it has 0 bytes of samples, though its header's own length is not the file's."""
    with path.open("rb") as file:
        head, size = file.read(4096), path.stat().st_size
    place = head.find(b"data" + bytes(4)) + 4
    streamed = head[:4] == b"RIFF" and head[8:12] == b"WAVE" and int.from_bytes(head[4:8], "little") + 8 != size
    return place if streamed and 12 < place < size - 4 else None


class _Endless(io.FileIO):
    """A file that reads as if the length at byte `place` were the largest one, which libsndfile takes as unknown."""

    def __init__(self, path: Path, place: int) -> None:
        super().__init__(path)
        self.place = place

    def readinto(self, buffer) -> int:
        start = self.tell()
        count = super().readinto(buffer) or 0
        for byte in range(max(start, self.place), min(start + count, self.place + 4)):
            buffer[byte - start] = b"\xff"
        return count
