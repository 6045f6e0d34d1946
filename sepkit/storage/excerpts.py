"""Excerpts for eye and ear: what each run makes of the easy and of the hard song, kept beside its scores.

An excerpt is one FLAC file in the run's folder, whole or absent, which any player opens: its clips follow one another,
16 bits on a common scale, so levels above full scale stay and silence stays silent. The file's comment holds the rest as
JSON. An excerpt counts as absent where the run's weights or the song's files have changed since, and where the file is
damaged. `sepkit.evaluation.listening` makes excerpts; reading them needs neither songs nor a network.
"""

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from sepkit.errors import SepkitError
from sepkit.storage.files import file_name, named, read_json, write_json, writing
from sepkit.storage.root import Root, Run

SECONDS = 8.0
REST = {"accompaniment": "vocals", "accompaniment estimate": "vocals estimate"}  # not stored where mixture − vocals


@dataclass(frozen=True, eq=False)
class Excerpt:
    """Part of a song: "mixture", "vocals", "vocals estimate" and, where known, the same of "accompaniment"."""

    song: str
    start_s: float  # in the song
    sample_rate: int
    clips: Mapping[str, np.ndarray]  # float32 (channel, time), all of one shape, at most 8 s
    origin: Mapping[str, Any] = field(default_factory=dict)  # fingerprints: "weights" of the run, "source" of the song


def keep(run: Run, excerpt: Excerpt) -> None:
    """Writes the excerpt into the run's folder; those of songs other than the easy and the hard one are deleted.

    Raises SepkitError where a clip has samples that are not finite.
    """
    if bad := [name for name, clip in excerpt.clips.items() if not np.isfinite(clip).all()]:
        raise SepkitError(f"{run.name}: {bad[0]} of {excerpt.song} has samples that are not finite; train it again.")
    clips = {name: clip.astype(np.float64) for name, clip in excerpt.clips.items()}
    step = max(1 / 32768, max(float(np.abs(clip).max()) for clip in clips.values()) / 32767)
    for name, rest in REST.items():
        if name in clips and np.abs(clips["mixture"] - clips[rest] - clips[name]).max() < step / 2:
            del clips[name]
    facts = {"song": excerpt.song, "start_s": excerpt.start_s, "step": step, "origin": dict(excerpt.origin)}
    whole = np.concatenate([np.rint(clip / step) for clip in clips.values()], axis=-1).clip(-32768, 32767)
    # with every name of a clip, the ones that are not stored too
    facts |= {"stored": list(clips), "clips": list(excerpt.clips)}
    with writing(_file(run, excerpt.song)) as part:
        rate, channels = excerpt.sample_rate, len(whole)
        with soundfile.SoundFile(part, "w", rate, channels, "PCM_16", format="FLAC") as file:
            file.comment = json.dumps(facts)
            file.write(whole.T.astype(np.int16))
    files = {_file(run, song) for song in (*(easy_and_hard(run.root) or ()), excerpt.song)}
    for file in set(run.path.glob(_file(run, "*").name)) - files:
        file.unlink(missing_ok=True)


def kept(run: Run, song: str) -> Excerpt | None:
    """The excerpt of `song` that the run's present weights made of the song's present files; None where there is none."""
    path = _file(run, song)
    if not path.exists():
        return None
    with suppress(OSError, RuntimeError, ValueError, KeyError, TypeError):  # cut short, or something else
        with soundfile.SoundFile(path) as file:
            facts, whole = json.loads(file.comment), file.read(dtype="int16", always_2d=True).T
            rate, length = file.samplerate, file.frames
        parts = np.split(whole * np.float64(facts["step"]), len(facts["stored"]), axis=1)
        clips = dict(zip(facts["stored"], parts, strict=True))
        for name in set(facts["clips"]) - set(clips):
            clips[name] = clips["mixture"] - clips[REST[name]]
        now = {"weights": run.weights(), "source": chosen(run.root).get(song)}
        same = all(None in (now[key], made) or now[key] == made for key, made in facts["origin"].items())
        if same and whole.shape[1] == length:  # a file that is cut short has fewer samples than it says
            ordered = {name: clips[name].astype(np.float32) for name in facts["clips"]}
            return Excerpt(song, facts["start_s"], rate, ordered, facts["origin"])
    return None


def easy_and_hard(root: Root) -> tuple[str, str] | None:
    """The week's easy and hard song, as `choose` kept them; None before, and where one is in exclude.txt since."""
    songs = chosen(root)
    return (next(iter(songs)), [*songs][-1]) if songs and not named(root.excluded(), songs)[0] else None


def choose(root: Root, songs: Mapping[str, str | None]) -> None:
    """Keeps {easy song: digest of its files, hard song: digest} for the week; one entry where they are one song."""
    write_json(root.path / "easy_and_hard.json", dict(songs))


def chosen(root: Root) -> dict[str, str | None]:
    """What `choose` kept; empty before."""
    path = root.path / "easy_and_hard.json"
    return dict(read_json(path, "the easy and the hard song")) if path.exists() else {}


def _file(run: Run, song: str) -> Path:
    return run.path / file_name(f"excerpt {song}", ".flac")
