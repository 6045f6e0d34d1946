"""A made-up song: key, tempo, chords, who plays what, and the mix.

Positions are beats, four to the bar; scale degrees count from 0, seven to the octave; a stem is float64 (2, time).
A player yields (beat, sound (time,), pan from -1, left, to 1 at constant power), drawn from a generator of its own.
"""

from collections.abc import Iterator
from itertools import pairwise, product

import numpy as np
from numpy.random import Generator

from sepkit.data.demo import synth
from sepkit.data.demo.synth import Singer
from sepkit.data.songs import accompaniment
from sepkit.profiles import SAMPLE_RATE

Part = Iterator[tuple[float, np.ndarray, float]]

REST_S = 4.1 + synth.ROOM_S  # a planned rest, of which the last phrase's reverberation takes a part
MODES = ((0, 2, 4, 5, 7, 9, 11), (0, 2, 3, 5, 7, 8, 10))  # major, minor
PROGRESSIONS = ((0, 4, 5, 3), (5, 3, 0, 4), (0, 5, 3, 4), (0, 3, 0, 4), (0, 2, 3, 4), (0, 6, 5, 6))
KICKS = ((0, 4, 8, 12), (0, 8, 10), (0, 6, 8), (0, 3, 8, 11), (0, 7, 10))  # on these sixteenths of a bar
# Eighths of a bar, and the degrees above the chord's root that the bass plays there.
BASS_LINES = (
    ((0, 0), (1, 0), (2, 0), (3, 0), (4, 0), (5, 0), (6, 0), (7, 0)),
    ((0, 0), (3, 0), (4, 4), (6, 7)),
    ((0, 0), (3, 4), (6, 0)),
    ((0, 0), (2, 7), (3, 0), (5, 4), (6, 0), (7, 6)),
)
# Levels in dB (RMS) and reverberation (amplitude), each drawn between two bounds.
LEVELS = {"drums": (-1.0, 1.0), "bass": (-4.0, 0.0), "other": (-4.0, 1.0)}
WETNESS = {"vocals": (0.2, 0.45), "drums": (0.05, 0.2), "bass": (0.0, 0.03), "other": (0.1, 0.3)}
VOCALS_DB = (-5.0, 1.0)  # vocals against all others, while there is singing


class Song:
    """What the players of a song agree on, drawn from the plan's generator."""

    def __init__(self, rng: Generator, duration_s: float) -> None:
        self.n_samples = round(duration_s * SAMPLE_RATE)
        self.beat_s = 60.0 / rng.uniform(84.0, 148.0)
        self.bars = range(int(np.ceil(self.n_samples / SAMPLE_RATE / (4 * self.beat_s))))  # those that begin in it
        self.swing = (0.0, 0.0, 0.15, 0.35)[rng.integers(4)]  # how late every second sixteenth comes, in sixteenths
        self.root = int(rng.integers(45, 57))
        self.mode = MODES[rng.integers(len(MODES))]
        self.chords = PROGRESSIONS[rng.integers(len(PROGRESSIONS))]  # degree of each bar's chord, repeating

    def pitch(self, degree: int) -> int:  # MIDI number
        return self.root + 12 * (degree // 7) + self.mode[degree % 7]

    def chord(self, beat: float) -> int:  # degree of its root
        return self.chords[int(beat // 4) % len(self.chords)]

    def triad(self, bar: int, low: int) -> list[int]:
        """The pitches of a bar's chord, each in the octave above `low`."""
        return sorted(low + (self.pitch(self.chord(4 * bar) + third) - low) % 12 for third in (0, 2, 4))

    def mix(self, part: Part) -> np.ndarray:
        """The stem (channel, time) of what one player plays."""
        stem = np.zeros((2, self.n_samples))
        for beat, sound, pan in part:
            start, angle = max(0, round(beat * self.beat_s * SAMPLE_RATE)), (pan + 1) * np.pi / 4
            sound = sound[: max(0, self.n_samples - start)]
            stem[0, start : start + sound.size] += np.cos(angle) * sound
            stem[1, start : start + sound.size] += np.sin(angle) * sound
        return stem


def make_stems(song_rng: Generator, artist_rng: Generator, duration_s: float) -> dict:
    """{name: stem} at their levels in the mixture; artist_rng decides singer and band, song_rng everything else."""
    singer, bass_kind, band = Singer.draw(artist_rng), int(artist_rng.integers(2)), artist_rng.permutation(3)[:2]
    plan, drummer, bassist, others, voice, room, levels = song_rng.spawn(7)
    song = Song(plan, duration_s)
    sections = singing_sections(plan, duration_s, song.beat_s)
    stems = {
        "vocals": song.mix(sing(voice, song, singer, sections)),
        "drums": np.tanh(1.5 * song.mix(play_drums(drummer, song))),  # compressed: its peaks stay below the mixture's
        "bass": song.mix(play_bass(bassist, song, bass_kind)),
        "other": play_others(others, song, sections, band),
    }
    for name, bounds in WETNESS.items():
        stems[name] = synth.reverberate(room, stems[name], room.uniform(*bounds))
    for name, bounds in LEVELS.items():
        stems[name] *= 10 ** (levels.uniform(*bounds) / 20) / synth.rms(stems[name])
    loudest = np.abs(stems["vocals"]).max(axis=0)
    singing = loudest > 1e-3 * loudest.max()
    balance = synth.rms(accompaniment(stems)[:, singing]) / synth.rms(stems["vocals"][:, singing])
    stems["vocals"] *= balance * 10 ** (levels.uniform(*VOCALS_DB) / 20)
    fade = synth.envelope(song.n_samples, 0.01, 0.05)
    return {name: stem * fade for name, stem in stems.items()}


def singing_sections(rng: Generator, duration_s: float, beat_s: float) -> list[tuple[float, float]]:
    """First and last beat of each sung section; the rests between take 40 to 46 % of the song."""
    rest_s = rng.uniform(0.40, 0.46) * duration_s
    n_rests = max(1, int(rest_s / REST_S))
    shortest = min(REST_S, rest_s / n_rests)
    rests = list(shortest + (rest_s - n_rests * shortest) * rng.dirichlet(np.full(n_rests, 2.0)))
    rest_first = rng.random() < 0.6
    rest_last = rng.random() < 0.5 and (n_rests > 1 or not rest_first)
    n_sung = n_rests + 1 - rest_first - rest_last
    sections, now = [], rests.pop(0) if rest_first else 0.0
    for sung_s in (duration_s - rest_s) * rng.dirichlet(np.full(n_sung, 12.0)):
        sections.append((float(np.ceil(now / beat_s)), float((now + sung_s) / beat_s)))
        now += sung_s + (rests.pop(0) if rests else 0.0)
    return sections


def sing(rng: Generator, song: Song, singer: Singer, sections: list) -> Part:
    """The vocals: phrases in the sung sections, exactly zero elsewhere."""
    backing = rng.random() < 0.4  # two more voices a third above, in the last section
    degrees = [degree for degree in range(-21, 35) if singer.low <= song.pitch(degree) <= singer.high]
    at = len(degrees) // 2
    for beat, end in sections:
        while end - beat >= 1:
            n_beats = min(float(rng.choice((4, 6, 8))), float(np.floor(2 * (end - beat)) / 2))
            notes, used = [], 0.0
            while used < n_beats - 0.5:  # the last half beat is for breathing
                length = min(float(rng.choice((0.5, 0.5, 1, 1, 1.5, 2))), n_beats - 0.5 - used)
                at = int(np.clip(at + rng.integers(-3, 4), 0, len(degrees) - 1))
                if length >= 1:  # long notes lean on the chord
                    chord = {(song.chord(beat + used) + third) % 7 for third in (0, 2, 4)}
                    fitting = [k for k, degree in enumerate(degrees) if degree % 7 in chord]
                    at = min(fitting, key=lambda k: abs(k - at))
                notes.append((used * song.beat_s, length * song.beat_s, degrees[at]))
                used += length
            lead = [(start, length, song.pitch(degree)) for start, length, degree in notes]
            yield beat, synth.sing_phrase(rng, singer, lead), rng.uniform(-0.1, 0.1)
            if backing and end == sections[-1][1]:
                third = [(start, length, song.pitch(degree + 2)) for start, length, degree in notes]
                for pan in (-0.7, 0.7):
                    yield beat, 0.25 * synth.sing_phrase(rng, singer, third), pan
            beat += n_beats


def play_drums(rng: Generator, song: Song) -> Part:
    """A pattern with small variations, and every fourth bar a fill into a crash."""
    kit = synth.drum_kit(rng)
    kicks, hat_every = KICKS[rng.integers(len(KICKS))], (1, 2, 2, 4)[rng.integers(4)]
    hat_level, hat_pan, starts_at = rng.uniform(0.12, 0.35), rng.uniform(-0.5, 0.5), rng.integers(2)

    def hit(name: str, bar: int, step: int, level: float, pan: float = 0.0) -> tuple[float, np.ndarray, float]:
        return 4 * bar + (step + song.swing * (step % 2)) / 4, level * rng.uniform(0.8, 1.0) * kit[name], pan

    for bar in song.bars:
        last = 16 if bar % 4 < 3 else 12
        for step in range(0, 16, hat_every):
            opened = step == 14 and rng.random() < 0.3
            yield hit("open" if opened else "hat", bar, step, hat_level * (0.6 if step % 4 else 1.0), hat_pan)
        if bar < starts_at:  # some songs begin with the hi-hat alone
            continue
        for step in range(last):
            if step in kicks or (step % 2 and rng.random() < 0.04):
                yield hit("kick", bar, step, 1.0)
            if step in (4, 12):
                yield hit("snare", bar, step, 0.75)
            elif rng.random() < 0.03:
                yield hit("snare", bar, step, 0.2)
        for step in range(last, 16):
            tom = rng.random() < 0.5
            yield hit("tom" if tom else "snare", bar, step, 0.65, (step - 13.5) / 3 if tom else 0.0)
        if bar % 4 == 0 and bar:
            yield hit("crash", bar, 0, 0.25, -hat_pan)


def play_bass(rng: Generator, song: Song, kind: int) -> Part:
    """A bass line on the chords' roots: `kind` 0 is a synthesiser, 1 a plucked string."""
    line = BASS_LINES[rng.integers(len(BASS_LINES))]
    bright, closing_s, softness = rng.uniform(0.3, 1.0), rng.uniform(0.08, 0.3), rng.uniform(0.9, 0.97)
    for bar in song.bars:
        for (eighth, above), (until, _) in pairwise((*line, (8, 0))):
            length_s = (until - eighth) / 2 * song.beat_s * rng.uniform(0.8, 0.98)
            pitch = 28 + (song.pitch(song.chord(4 * bar) + above) - 28) % 12 + 12 * (above == 7)
            if kind == 1:
                note = synth.plucked_string(rng, pitch, length_s, 0.99, softness)
            else:  # a filter that closes: a bright and a dull tone, crossfaded
                t, hz = synth.seconds(length_s), synth.midi_to_hz(pitch)
                note = synth.tone(t * hz, synth.harmonics(1000.0, 2.0))
                rich = synth.tone(t * hz, synth.harmonics(hz * 2, 1.3))
                note += bright * np.exp(-t / closing_s) * (rich - note)
            note = note * synth.envelope(note.size, 0.004, 0.02)
            yield 4 * bar + eighth / 2, note / synth.rms(note), 0.0


def play_others(rng: Generator, song: Song, sections: list, band: np.ndarray) -> np.ndarray:
    """The chords on two of pad, plucked strings and keys; often a lead where nobody sings."""
    parts = [song.mix((play_pad, play_strings, play_keys)[player](rng, song)) for player in band]
    if rng.random() < 0.5:
        parts.append(song.mix(play_lead(rng, song, sections)))
    parts = [part / synth.rms(part) for part in parts if part.any()]
    return np.sum([rng.uniform(0.5, 1.0) * part for part in parts], axis=0)


def play_pad(rng: Generator, song: Song) -> Part:
    """Slow sustained chords: detuned sawtooths, other ones left than right."""
    t, tilt, low = synth.seconds(4 * song.beat_s), rng.uniform(1.5, 2.3), int(rng.integers(48, 60))
    shape = synth.envelope(t.size, rng.uniform(0.05, 0.4), 0.1)
    for bar in song.bars:
        for pitch, pan in product(song.triad(bar, low), (-0.8, 0.8)):
            hz = synth.midi_to_hz(pitch + rng.normal(0.0, 0.06))
            yield 4 * bar, shape * synth.tone(t * hz + rng.random(), synth.harmonics(hz, tilt)), pan


def play_strings(rng: Generator, song: Song) -> Part:
    """Arpeggios, or strummed chords, on plucked strings."""
    low, decay = int(rng.integers(50, 62)), rng.uniform(0.99, 0.997)
    strums, pan, order = rng.random() < 0.4, rng.uniform(-0.6, 0.6), rng.permutation(8) % 4
    strings: dict[int, np.ndarray] = {}  # a pitch sounds alike each time, as from a sampler
    for bar in song.bars:
        chord = song.triad(bar, low)
        chord.append(chord[0] + 12)
        for pitch in chord:
            if pitch not in strings:
                strings[pitch] = synth.plucked_string(rng, pitch, 1.2, decay, 0.8)
        for eighth in range(8):
            beat = 4 * bar + (eighth + song.swing / 2 * (eighth % 2)) / 2
            if not strums:
                yield beat, rng.uniform(0.7, 1.0) * strings[chord[order[eighth]]], pan
            elif eighth in (0, 3, 4, 6):
                for k, pitch in enumerate(chord):  # 12 ms from string to string
                    yield beat + 0.012 * k / song.beat_s, strings[pitch], pan


def play_keys(rng: Generator, song: Song) -> Part:
    """Short chords on an organ or an electric piano, with tremolo from side to side."""
    low, decay_s = int(rng.integers(52, 64)), rng.choice((0.5, 1.0, 8.0))
    amplitudes = np.array([1.0, 0.6, 0.35, 0.2, 0.05, 0.15, 0.0, 0.1]) * rng.uniform(0.4, 1, 8)
    steps = ((0, 4), (0, 3, 6), (1, 3, 5, 7))[rng.integers(3)]
    t = synth.seconds(min(2.0, 8 / len(steps)) * song.beat_s * 0.9)
    sway = 0.3 * np.sin(2 * np.pi * rng.uniform(3, 6) * t)
    shape = synth.envelope(t.size, 0.005, 0.05) * np.exp(-t / decay_s)
    for bar in song.bars:
        for pitch in song.triad(bar, low):
            sound = shape * synth.tone(t * synth.midi_to_hz(pitch), amplitudes)
            for eighth, pan in product(steps, (-0.7, 0.7)):
                yield 4 * bar + eighth / 2, sound * (1 - np.sign(pan) * sway), pan


def play_lead(rng: Generator, song: Song, sections: list) -> Part:
    """A synthesiser melody in the rests: it has vibrato, and no formants."""
    t, at, tilt = synth.seconds(song.beat_s), 7, rng.uniform(1.0, 1.6)
    shape = synth.envelope(t.size, 0.01, 0.05)
    vibrato_s = 0.0006 * np.sin(2 * np.pi * 5.5 * t) * np.minimum(1, t / 0.3)
    for beat in range(4 * len(song.bars)):
        if not any(first - 1 < beat < last for first, last in sections):
            at = int(np.clip(at + rng.integers(-2, 3), 3, 13))
            hz = synth.midi_to_hz(song.pitch(at))
            yield beat, synth.tone(hz * (t + vibrato_s), synth.harmonics(hz, tilt)) * shape, 0.2
