"""Audio files that are written: the formats, their depths, and files that hold the same bytes for the same samples."""

import io
from pathlib import Path
from typing import Any

import soundfile as sf

from sepkit.data.sound import Sound
from sepkit.errors import SepkitError, UsageError

FORMATS = {"wav": ("PCM_16", "PCM_24", "FLOAT"), "flac": ("PCM_16", "PCM_24"), "mp3": ("MPEG_LAYER_III",)}
DEPTHS = {"PCM_16": (2, "16 bits"), "PCM_24": (3, "24 bits"), "FLOAT": (4, "32-bit float")}  # bytes a sample; in words
DEPTHS |= {"MPEG_LAYER_III": (0, "MP3")}
STEPS = {"PCM_16": 2.0**-15, "PCM_24": 2.0**-23}  # between neighbouring samples
DEPTH_OF = dict.fromkeys(("PCM_24", "ALAC_20", "ALAC_24"), "PCM_24")  # of a file's subtype; PCM_16 for all others
DEPTH_OF |= dict.fromkeys(("FLOAT", "DOUBLE", "PCM_32", "ALAC_32"), "FLOAT")
WAV_BYTES = 2**32 - 2**20  # longer results are RF64, which is WAV with longer lengths


def depths_of(format: str, subtype: str | None) -> tuple[str, ...]:
    """The depths that a format has; UsageError for an unknown format, or a `subtype` that is none of them."""
    if format not in FORMATS:
        raise UsageError(f"There is no format {format!r}; expected one of {', '.join(FORMATS)}.")
    if subtype not in (None, *FORMATS[format]):
        known = ", ".join(FORMATS[format])
        raise UsageError(f"There is no subtype {subtype!r}; expected one of {known} in {format.upper()}.")
    return FORMATS[format]


def create(file: Any, rate: int, format: str, depth: str, size: int = 0) -> sf.SoundFile:
    """An empty file in stereo, open to write; size: bytes of its samples, if known."""
    best: dict[str, Any] = {"compression_level": 0, "bitrate_mode": "CONSTANT"} if format == "mp3" else {}
    return sf.SoundFile(file, "w", rate, 2, depth, format="RF64" if size > WAV_BYTES else format, **best)


def undate(file: Path) -> None:
    """Clears the time in the PEAK chunk of a float WAV file by libsndfile: the same input gives the same bytes."""
    with file.open("rb+") as wav:
        if (place := wav.read(4096).find(b"PEAK\x18\0\0\0")) > 0:
            wav.seek(place + 12)
            wav.write(bytes(4))


def require_writable(song: Sound, format: str, depth: str) -> None:
    """SepkitError where libsndfile can't write `format`, or not at the song's rate."""
    try:
        create(io.BytesIO(), song.samplerate, format, depth).close()
    except (sf.SoundFileError, ValueError) as error:
        what = f"{format.upper()} of {song.samplerate} Hz"
        raise SepkitError(f"libsndfile {sf.__libsndfile_version__} writes no {what}; give another --format.") from error
