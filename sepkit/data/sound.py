"""An audio file in blocks, from its start to its end: what its header promises, and where it breaks off.

A header's length may be unknown, as programs that write into a pipe leave it: such a file is read to its end.
"""

import io
import os
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import soundfile as sf

from sepkit.data.songs import on_disk
from sepkit.errors import SepkitError

# libsndfile's words about a header that promises more bytes, or (RF64) samples, than the file has
PROMISED_BYTES = re.compile(r"^ *(?:data|SSND|riff|Data Size) *: (\d+) \(should be (\d+)\)", re.MULTILINE)
PROMISED_SAMPLES = re.compile(r"'ds64' chunk of (\d+)")
PIPED = (0x7F000000, 0x7FFFFFFF, 0xFFFFFFFF)  # lengths, or a header less, that stand for an unknown one
ENDLESS = 2**62  # a FLAC file without a length reads as about twice as many samples


class Sound(sf.SoundFile):
    """A file opened for reading; SepkitError, by name, for one that is absent, no sound in 1 or 2 channels, or cut short.

    n_samples: by the header; None where it has no length.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.n_samples, self.endless = path, None, None
        if not path.is_file() or not path.stat().st_size:
            fault = f"{path} is a folder" if path.is_dir() else f"There is no file {path}"
            raise SepkitError(f"{f'{path} is empty' if path.is_file() else fault}; give WAV or FLAC files.")
        try:
            place = _unwritten_length(path)
            self.endless = None if place is None else _Endless(path, place)
            super().__init__(self.endless or on_disk(path))
        except (RuntimeError, OSError) as error:
            reason = str(error).split(": ", 1)[-1] or "Error in its header."  # without the name in bytes
            raise SepkitError(f"{path} is not audio that can be read here ({reason}); convert it to WAV.") from error
        there = self.frames  # libsndfile's count of what there is
        if samples := PROMISED_SAMPLES.search(self.extra_info):
            self.n_samples = int(samples[1])
        elif promised := PROMISED_BYTES.search(self.extra_info):
            if not any(0 <= length - int(promised[1]) < 4200 for length in PIPED):
                self.n_samples = there * int(promised[1]) // int(promised[2])
        elif there < ENDLESS and not self.endless:
            self.n_samples = there
        if self.n_samples == 0 or self.channels > 2:
            raise SepkitError(f"{path} has {there} samples in {self.channels} channels; expected sound in 1 or 2.")
        self._require_whole(there)

    def seekable(self) -> bool:
        """soundfile would seek after each block, which fails at the end of a FLAC file without a length."""
        return False

    def close(self) -> None:
        super().close()
        if self.endless:
            self.endless.close()

    def blocks(self, seconds: float) -> Iterator[np.ndarray]:
        """All samples, float32 (channel, time); SepkitError where the file breaks off."""
        done = 0
        try:
            while len(block := self.read(max(1, round(seconds * self.samplerate)), dtype="float32", always_2d=True)):
                done += len(block)
                yield block.T
        except RuntimeError as error:
            where = f"at {sf.SoundFile.seek(self, 0, os.SEEK_CUR) / self.samplerate:.2f} s"
            raise SepkitError(f"{self.path} is cut short or damaged {where} ({error}); copy it again.") from error
        if done == 0:
            raise SepkitError(f"{self.path} has 0 samples; expected sound.")
        if self.format != "MP3":  # whose length is estimated
            self._require_whole(done)

    def _require_whole(self, n_samples: int) -> None:
        if self.n_samples and n_samples < self.n_samples:
            raise SepkitError(
                f"{self.path} is cut short: its header promises {self.n_samples / self.samplerate:.2f} s, "
                f"it ends at {n_samples / self.samplerate:.2f} s; copy it again."
            )


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
