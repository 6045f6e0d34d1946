"""Estimates that another program wrote as audio files, each checked against its song before it is scored.

    FOLDER/test/<song>/vocals.wav, accompaniment.wav …    as musdb writes and museval reads them
    FOLDER/<song>/vocals.wav                              or so

The accompaniment is the file of one of the names in ACCOMPANIMENT, else the sum of drums, bass and other, else the
residual, mixture minus vocals: as the folder has it for any song, all songs must have it.
"""

import hashlib
import os
from pathlib import Path

import numpy as np
import scipy.fft

from sepkit.data.layouts import entries_of
from sepkit.data.sound import Sound
from sepkit.errors import SepkitError
from sepkit.models.separation import complete
from sepkit.profiles import STEMS
from sepkit.storage.files import digest, text_of

ACCOMPANIMENT = ("accompaniment", "instrumental", "instrumentals", "no_vocals")
MOST_S = 1.0  # of a shift that is looked for
ALIKE, SURER = 0.1, 0.9  # correlation below which nothing is told; of that without a shift, beside the best


class FileEstimate:
    """The estimates in `folder`; song {name: {source: file}}, sources: those that every song must have as files."""

    def __init__(self, folder: Path, protocol: str, sample_rate: int) -> None:
        self.folder, self.sample_rate = folder, sample_rate
        self.songs: dict[str, dict[str, Path]] = {}
        for place in (folder, *(folder / split for split in ("train", "valid", "test"))):
            for entry in entries_of(place):
                if files := _sources(entry):
                    self.songs[_name(entry.name)] = files
        there = {source for files in self.songs.values() for source in files}
        kinds = {"accompaniment": ("vocals", "accompaniment"), "drums": STEMS}
        self.sources = next((kinds[source] for source in kinds if source in there), ("vocals",))
        if protocol == "4stem":
            self.sources = STEMS

    def fingerprint(self, song: str) -> str:
        """Of the song's files, their names and absence included."""
        files = sorted(self.songs.get(_name(song), {}).items())
        known = "".join(f"{source} {digest(file)}\n" for source, file in files if source in self.sources)
        return hashlib.blake2b(known.encode(), digest_size=16).hexdigest()

    def require_some(self, songs: list[str]) -> None:
        """SepkitError where the folder has none of `songs`; prints what it has besides."""
        names = {_name(song) for song in songs}
        if not names & self.songs.keys():
            found = ", ".join(sorted(self.songs)[:3]) or "no folder with vocals.wav"
            raise SepkitError(
                f"Expected estimates such as {self.folder / songs[0] / 'vocals.wav'} or the same under test/, found {found}; name the folders as the {len(songs)} songs."
            )
        if strange := sorted(self.songs.keys() - names):
            few = ", ".join(strange[:3])
            print(f"{self.folder}: {len(strange)} folders are no songs of this split: {few}", flush=True)

    def __call__(self, mixture: np.ndarray, target: dict[str, np.ndarray], song: str) -> dict[str, np.ndarray]:
        files = self.songs.get(_name(song), {})
        if missing := [source for source in self.sources if source not in files]:
            raise SepkitError(f"{self.folder} has no {' and no '.join(missing)} of it")
        return complete({source: self._read(files[source], mixture) for source in self.sources}, mixture)

    def _read(self, file: Path, mixture: np.ndarray) -> np.ndarray:
        with Sound(file) as sound:
            rate, samples = sound.samplerate, np.concatenate(list(sound.blocks(10.0)), axis=1)
        if rate != self.sample_rate:
            raise SepkitError(f"{file} is at {rate} Hz and scores are at {self.sample_rate} Hz; resample it")
        if samples.shape[0] != mixture.shape[0]:
            raise SepkitError(f"{file} is mono and its song is stereo; write both channels")
        if off := samples.shape[1] - mixture.shape[1]:
            which = "more" if off > 0 else "fewer"
            raise SepkitError(f"{file} has {abs(off)} samples {which} than the mixture's {mixture.shape[1]}; align it")
        if bad := int(np.count_nonzero(~np.isfinite(samples))):
            raise SepkitError(f"{file} holds {bad} samples that are not finite; write it again")
        if not samples.any():
            raise SepkitError(f"{file} is silent from start to end; nothing can be said about it")
        return samples

    def shifted(self, song: str, estimate: dict[str, np.ndarray], target: dict[str, np.ndarray]) -> str:
        """Which of the song's files are shifted in time against their targets, in words; nothing where none is."""
        lags = {source: lag_of(estimate=estimate[source], target=target[source], most=round(MOST_S * self.sample_rate))
                for source in self.sources if source in target}  # fmt: skip
        files = self.songs[_name(song)]
        said = [f"{files[source].name} comes {abs(lag)} samples {'late' if lag > 0 else 'early'}"
                for source, lag in lags.items() if lag]  # fmt: skip
        return " and ".join(said)


def lag_of(*, estimate: np.ndarray, target: np.ndarray, most: int) -> int:
    """Samples by which `estimate` comes after `target`, both (channel, time); negative where it comes before.

    The lag of the highest cross-correlation of their slopes, up to `most`; 0 where the two are too unlike to tell, or
    correlate without it nearly as well, as after a shift of a few samples.
    """
    slopes = [np.diff(signal.mean(axis=0, dtype=np.float64)) for signal in (estimate, target)]
    size = scipy.fft.next_fast_len(len(slopes[0]) + most, real=True)
    ours, theirs = (scipy.fft.rfft(slope, size) for slope in slopes)
    correlation = scipy.fft.irfft(ours * theirs.conj(), size)
    near = np.abs(np.concatenate([correlation[-most:], correlation[: most + 1]]))  # lags -most … most
    lag, whole = int(near.argmax()) - most, float(np.linalg.norm(slopes[0]) * np.linalg.norm(slopes[1]))
    sure = near[lag + most] > ALIKE * whole and near[most] < SURER * near[lag + most]
    return lag if sure else 0


def _name(song: str) -> str:
    """Of a song or its folder: macOS writes ö as two letters."""
    return text_of(os.fsencode(song))


def _sources(folder: Path) -> dict[str, Path]:
    """{source: file} of a song's folder."""
    if not folder.is_dir():
        return {}
    files = {file.stem.casefold(): file for file in entries_of(folder) if file.suffix.casefold() in (".wav", ".flac")}
    rest = next((files[name] for name in ACCOMPANIMENT if name in files), None)
    named = {source: files[source] for source in STEMS if source in files}
    return {**named, "accompaniment": rest} if rest else named
