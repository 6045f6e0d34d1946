"""Songs of one's own: how each kind of folder is read, the way from doctor to the report, and what is refused."""

import json
import shutil
import subprocess
from dataclasses import replace

import numpy as np
import pytest
import soundfile as sf

import sepkit
from sepkit.data.build import build_cache, fingerprint, source_digest
from sepkit.data.cache import CacheSettings
from sepkit.data.check import check_folder, require_headers
from sepkit.data.songs import find_songs, read_song
from sepkit.errors import SepkitError
from sepkit.profiles import STEMS
from sepkit.storage import Root

RATE, SECONDS = 44100, 1.5
NAMES = [f"{artist} - Song {number}" for artist in ("Ada", "Bo", "Cy", "Di") for number in (1, 2)]


def noise(seed, channels=2, rate=RATE):
    return np.random.default_rng(seed).normal(0, 0.05, (round(SECONDS * rate), channels)).round(4)


def write(folder, stems, end=".wav", rate=RATE, **sounds):
    """A song of noise: a file for each of `stems`, or `sounds` by name; returns what was written, (time, channel)."""
    folder.mkdir(parents=True, exist_ok=True)
    seed = sum(map(ord, folder.name))
    sounds = {**{stem: noise([seed, number], rate=rate) for number, stem in enumerate(stems)}, **sounds}
    for stem, samples in sounds.items():
        file = folder / f"{stem}{end}"
        file.parent.mkdir(exist_ok=True)
        sf.write(file, samples, rate, format=end[1:].upper())
    return sounds


def with_mixture(sounds):
    return {**sounds, "mixture": sum(sounds.values())}


def two_stems(root):
    """train/ and test/, a mixture, no list: validation songs are drawn."""
    for split, names in (("train", NAMES[:6]), ("test", NAMES[6:])):
        for name in names:
            write(root / split / name, (), **with_mixture(write(root / split / name, ("vocals", "accompaniment"))))
    return {"vocals": "vocals.wav", "accompaniment": "accompaniment.wav", "mixture": "mixture.wav"}


def karaoke_in_flac(root):
    """All in one folder, two lists, no mixture."""
    for name in NAMES:
        write(root / name, ("Vocals", "karaoke"), ".flac")
    (root / "test.txt").write_text(f"{NAMES[0]}\n{NAMES[1]}\n")
    (root / "validation.txt").write_text(f"{NAMES[2]}\n")
    return {"vocals": "Vocals.flac", "accompaniment": "karaoke.flac", "mixture": "the sum"}


def odd_names_in_mp3(root):
    """Any names, some of them mono files; all in one folder, neither lists nor a mixture."""
    for name in NAMES:
        write(root / name, ("Lead Vocal", "02 Backing L", "guitar"), ".mp3", piano=noise(9, channels=1))
        write(root / name, ("click",), ".mp3")
    (root / "stems.yaml").write_text("vocals: [lead vocal, '*backing*']\nignore: click\n")
    vocals, rest = "02 Backing L.mp3 + Lead Vocal.mp3", "guitar.mp3 + piano.mp3"
    return {"vocals": vocals, "accompaniment": rest, "mixture": "the sum"}


def moisesdb(root):
    """Two recordings of the voice, one of them mono, no bass, and a stem that counts as other."""
    for number, name in enumerate(NAMES):
        artist, song = name.split(" - ")
        folder = root / "moisesdb_v0.1" / f"0{number}-id"
        write(folder, ("vocals/a", "drums/c", "other_keys/d"), **{"vocals/b": noise(8, channels=1)})
        stems = {"vocals": "ab", "drums": "c", "other_keys": "d"}
        facts = [
            {"stemName": stem, "tracks": [{"id": each, "extension": "wav", "trackType": "x"} for each in ids]}
            for stem, ids in stems.items()
        ]
        (folder / "data.json").write_text(json.dumps({"song": song, "artist": artist, "genre": "pop", "stems": facts}))
    vocals = "vocals/a.wav + vocals/b.wav"
    return {
        "vocals": vocals,
        "drums": "drums/c.wav",
        "bass": "silence",
        "other": "other_keys/d.wav",
        "mixture": "the sum",
    }


KINDS = {two_stems: "two stems", karaoke_in_flac: "two stems", odd_names_in_mp3: "stems.yaml", moisesdb: "moisesdb"}
SLOW = pytest.mark.long


@pytest.mark.parametrize("make", KINDS)
def test_the_reading_is_told_back_song_by_song(tmp_path, make):
    expected = make(tmp_path / "songs")
    folder = find_songs(tmp_path / "songs")
    report = sepkit.doctor(tmp_path / "songs", root=tmp_path / "root", n_jobs=1)
    assert report.ok, report
    assert folder.layout == report.layout == KINDS[make]
    assert [track.name for track in sorted(folder.tracks, key=lambda track: track.name)] == NAMES
    assert all(count > 0 for count in folder.counts.values())
    for track in folder.tracks:
        assert {name: track.told(name) for name in ("mixture", *track.sources)} == expected
        assert track.name in report.reading
    for told in expected.values():
        assert " ".join(told.split()) in " ".join(report.reading.split()) or len(told) > 25  # longer ones are wrapped
    assert f"songs, read as {KINDS[make]}: 8 songs" in report.reading


@pytest.mark.parametrize("make", [two_stems, *(pytest.param(make, marks=SLOW) for make in list(KINDS)[1:])])
def test_from_doctor_to_the_report(tmp_path, tiny, make):
    """Issues of two sources alone: cache, training, scores, comparison, scoreboard, report."""
    songs, profile = tmp_path / "my songs", replace(tiny, epochs=1)
    make(songs)
    where = {"data": songs, "root": Root.open(tmp_path / "root", profile)}
    assert sepkit.doctor(**where, profile=profile, n_jobs=1).ok
    run = sepkit.train("Base", profile=profile, device="cpu", **where)
    scores = sepkit.evaluate(run, data=songs, n_jobs=1)
    assert set(scores["source"]) == {"vocals", "accompaniment"}
    assert set(scores["track"]) == {track.name for track in find_songs(songs).split("test")}
    mixture = sepkit.reference("mixture", profile=profile, n_jobs=1, **where)
    assert sepkit.compare(run, mixture).n == len(set(scores["track"]))
    origin = f"my songs, read as {KINDS[make]}: 8 songs"
    assert origin in run.config["data"]["origin"]
    assert "Base" in set(sepkit.scoreboard(where["root"], profile)["Exp"])
    for page in (where["root"].path / "scoreboard.html", sepkit.report(where["root"], profile)):
        assert origin in page.read_text(encoding="utf-8")
    assert not sepkit.train("Base", profile=profile, device="cpu", **where).path.samefile(songs)  # returned as it is


def test_experiments_of_four_stems_say_that_there_are_two(tmp_path, tiny):
    two_stems(tmp_path / "songs")
    where = {"profile": tiny, "data": tmp_path / "songs", "root": tmp_path / "root", "device": "cpu"}
    with pytest.raises(
        SepkitError,
        match=r"6 of 6 songs in .* have two sources, .*: experiments with vocals, drums, bass, other need four; leave these out",
    ):
        sepkit.train("Base-4", **where)


def test_four_stems_of_any_kind_serve_all_experiments(tmp_path):
    for name in NAMES:
        write(tmp_path / name, STEMS, ".flac")
    folder = find_songs(tmp_path)
    assert (folder.layout, folder.tracks[0].mixture) == ("four stems", None)
    cache = build_cache(folder, Root.open(tmp_path / "root", "demo"), CacheSettings(sources=STEMS), n_jobs=1)
    mixture, targets = cache.song(NAMES[0])
    assert tuple(targets) == STEMS
    np.testing.assert_allclose(mixture, sum(targets.values()), atol=1e-6)


def test_samples_are_the_sums_of_the_files(tmp_path):
    sounds = write(tmp_path / NAMES[0], ("lead", "choir", "piano"), ".flac", drums=noise(1, channels=1))
    (tmp_path / "stems.yaml").write_text("vocals: lead, choir\ndrums: [drums]\n")
    (track,) = find_songs(tmp_path).tracks
    audio, rate = read_song(track)
    assert (rate, tuple(audio)) == (RATE, ("mixture", *STEMS))
    stereo = np.repeat(sounds["drums"], 2, axis=1)
    expected = {
        "vocals": sounds["lead"] + sounds["choir"], "drums": stereo, "bass": 0 * stereo, "other": sounds["piano"],
        "mixture": sum(sounds.values()),
    }  # fmt: skip
    for name, samples in expected.items():
        np.testing.assert_allclose(audio[name].T, samples, atol=2e-4)  # 16 bits, thrice


def test_another_rate_is_resampled_in_the_cache(tmp_path):
    for name in NAMES:
        write(tmp_path / name, ("vocals", "accompaniment"), rate=48000)
    report = sepkit.doctor(tmp_path, root=tmp_path / "root", n_jobs=1)
    assert report.ok
    notes = [problem for problem in report.problems if problem.kind == "sample rate"]
    assert {(problem.found, problem.blocking) for problem in notes} == {("48000 Hz", False)}
    assert len(notes) == 8
    cache = build_cache(find_songs(tmp_path), Root.open(tmp_path / "root", "demo"), CacheSettings(), n_jobs=1)
    assert cache.song(NAMES[0])[0].shape == (2, round(SECONDS * 44100))


def test_a_cache_is_of_one_reading(tmp_path):
    """Another list of vocals makes other sources of the same files."""
    odd_names_in_mp3(tmp_path)
    folder = find_songs(tmp_path)
    (tmp_path / "stems.yaml").write_text("vocals: [lead vocal]\nignore: click\n")
    other = find_songs(tmp_path)
    assert fingerprint(folder, CacheSettings()) != fingerprint(other, CacheSettings())
    assert source_digest(folder.tracks[0]) != source_digest(other.tracks[0])


def test_drawn_songs_are_whole_artists_and_stay(tmp_path):
    for name in NAMES:
        (tmp_path / name).mkdir()
        for stem in ("vocals", "accompaniment"):
            (tmp_path / name / f"{stem}.wav").touch()
    splits = {track.name: track.split for track in find_songs(tmp_path).tracks}
    assert all(splits[f"{artist} - Song 1"] == splits[f"{artist} - Song 2"] for artist in ("Ada", "Bo", "Cy", "Di"))
    assert splits == {track.name: track.split for track in find_songs(tmp_path).tracks}
    assert {track.split for track in find_songs(tmp_path, [NAMES[0]]).excluded} == {splits[NAMES[0]]}
    without = {track.name: track.split for track in find_songs(tmp_path, [NAMES[0]]).tracks}
    assert without == {name: split for name, split in splits.items() if name != NAMES[0]}


@pytest.mark.skipif(not shutil.which("ffmpeg"), reason="needs ffmpeg")
def test_m4a_is_read_where_ffmpeg_is(tmp_path, monkeypatch):
    for name in NAMES[::2]:
        write(tmp_path / name, ("vocals", "instrumental"))
        for file in (tmp_path / name).glob("*.wav"):
            call = ["ffmpeg", "-v", "error", "-i", file, "-b:a", "256k", file.with_suffix(".m4a")]
            subprocess.run(call, check=True)
            file.unlink()
    report = sepkit.doctor(tmp_path, root=tmp_path / "root", n_jobs=1)
    assert report.ok, report
    monkeypatch.setenv("PATH", "")
    with pytest.raises(SepkitError, match=r"expected ffmpeg and ffprobe on the PATH to read \.m4a songs, found none"):
        require_headers(find_songs(tmp_path), "Training")


def break_name(root):
    (root / NAMES[0] / "vocals.wav").rename(root / NAMES[0] / "lead.wav")


def break_names(root):
    (root / NAMES[0] / "vocals.wav").rename(root / NAMES[0] / "lead.wav")
    (root / NAMES[0] / "accompaniment.wav").rename(root / NAMES[0] / "band.wav")


def break_yaml(root):
    (root / "stems.yaml").write_text("vocals: [lead vocal\n")


def break_lists(root):
    (root / "stems.yaml").write_text("voice: [vocals]\n")


def break_twice(root):
    (root / "stems.yaml").write_text("vocals: [vocals]\nignore: [Vocals]\n")


def break_role(root):
    (root / "stems.yaml").write_text("vocals: [sopranos]\n")


def break_length(root):
    write(root / NAMES[0], (), accompaniment=noise(1)[:-100])


def break_rate(root):
    write(root / NAMES[0], (), rate=48000, accompaniment=noise(1))


def break_file(root):
    (root / NAMES[0] / "vocals.wav").write_bytes(b"not audio")


def break_cut(root):
    file = root / NAMES[0] / "vocals.wav"
    file.write_bytes(file.read_bytes()[:5000])


def break_channels(root):
    write(root / NAMES[0], (), vocals=noise(1, channels=6))


def break_empty(root):
    shutil.rmtree(root / NAMES[0])
    for split in ("train", "test"):
        (root / split).mkdir()
    for name in NAMES[2:]:
        (root / name).rename(root / "train" / name)
    (root / NAMES[1]).rename(root / "test" / NAMES[1])
    (root / "train" / "Di - Song 3").mkdir()


def break_artists(root):
    for name in NAMES[1:]:
        shutil.rmtree(root / name)


def break_json(root):
    shutil.rmtree(root)
    moisesdb(root)
    (root / "moisesdb_v0.1" / "00-id" / "data.json").write_text('{"song": "One"}')


BROKEN = {
    break_name: r"Ada - Song 1: vocals.wav: missing stem: expected vocals.wav, found no such file \(but lead.wav\); name the stems in a file stems.yaml at the root",
    break_names: r"Ada - Song 1: its files: unknown stems: expected vocals and accompaniment, found band.wav, lead.wav; name the vocals in a file stems.yaml at the root of all songs",
    break_yaml: r"stems.yaml can't be read .*give lines as vocals: \[lead vocal, backing\]",
    break_lists: r"stems.yaml: expected lists of stems under .*, such as vocals: .*, found voice; correct it",
    break_twice: r"stems.yaml names 'vocals' twice; leave it in one list",
    break_role: r"Bo - Song 1: its files: no vocals: expected vocals, found accompaniment.wav, vocals.wav; correct stems.yaml",
    break_length: r"Ada - Song 1: accompaniment.wav: unequal length: expected \d+ samples as its other files, found 66050 \(-100\)",
    break_rate: r"Ada - Song 1: accompaniment.wav: sample rate: expected 44100 Hz as its other files, found 48000 Hz",
    break_file: r"Ada - Song 1: vocals.wav: unreadable: expected audio, found 9 bytes, not audio",
    break_cut: r"Ada - Song 1: vocals.wav: truncated: expected as many samples as the header says, found \d+; repair it, or exclude",
    break_channels: r"Ada - Song 1: vocals.wav: channels: expected 2 channels, found 66150 samples in 6 channels",
    break_empty: r"Di - Song 3: its files: no audio: expected a mixture and its stems, found nothing; copy its files there, or delete the folder",
    break_artists: r"no valid songs: expected at least 1, found 0; name songs of train/ in validation.txt",
    break_json: r"00-id: data.json: unreadable: expected song, artist and stems, as MoisesDB has them, found KeyError: 'artist'",
}  # fmt: skip


@pytest.mark.parametrize("change", BROKEN)
def test_what_is_broken_is_one_sentence(tmp_path, change):
    songs = tmp_path / "songs"
    for name in NAMES:
        write(songs / name, ("vocals", "accompaniment"))
    change(songs)
    with pytest.raises(SepkitError) as caught:
        require_headers(find_songs(songs), "Training")
    assert "\n" not in str(caught.value)
    caught.match(BROKEN[change])
    report = sepkit.doctor(songs, root=tmp_path / "root", n_jobs=1)
    assert not report.ok
    assert "BLOCKS" in str(report)


def test_what_stems_yaml_names_in_vain_is_noted(tmp_path):
    odd_names_in_mp3(tmp_path)
    (tmp_path / "stems.yaml").write_text("vocals: [lead vocal, '02 backing r']\nignore: click\n")
    notes = [problem for problem in check_folder(find_songs(tmp_path), n_jobs=1)[2] if problem.kind == "unknown name"]
    assert [(note.file, note.found, note.blocking) for note in notes] == [("stems.yaml", "'02 backing r'", False)]
