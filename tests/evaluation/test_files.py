"""Audio files of another program: read as they lie, bad ones told by name, scored as any run is."""

import json
import os
import shutil

import numpy as np
import pytest
import soundfile as sf

import sepkit
from sepkit.__main__ import main
from sepkit.data.songs import accompaniment, find_songs, read_song
from sepkit.errors import SepkitError, UsageError
from sepkit.evaluation.files import FileEstimate, lag_of
from sepkit.evaluation.track import Targets
from sepkit.storage import Root, read_frames
from tests.evaluation.reference_cases import STORED

RATE, SECONDS = 44100, 1.0
SONGS = [f"T{number} - Test" for number in range(3)]
SONG = SONGS[0]


@pytest.fixture(scope="module")
def songs(make_mini, tmp_path_factory):
    return make_mini(tmp_path_factory.mktemp("others") / "songs", train=1, valid=1, test=len(SONGS), seconds=SECONDS)


@pytest.fixture(scope="module")
def where(songs, tmp_path_factory):
    return {"root": tmp_path_factory.mktemp("root"), "data": songs, "n_jobs": 1, "device": "cpu"}


def truth(songs, song, source):
    stems = ("drums", "bass", "other") if source == "accompaniment" else (source,)
    return sum(sf.read(songs / "test" / song / f"{stem}.wav", dtype="float32")[0] for stem in stems)


def estimate(songs, song, source, seed=0):
    return truth(songs, song, source) + np.random.default_rng(seed).normal(0, 0.02, (RATE, 2)).astype(np.float32)


def write(file, samples, rate=RATE):
    file.parent.mkdir(parents=True, exist_ok=True)
    sf.write(file, samples, rate, subtype="PCM_24" if file.suffix == ".flac" else "FLOAT")


def values(table, song):
    return {(row.source, row.metric): row.value for row in table[table["track"] == song].itertuples()}


def test_scored_by_name_told_by_name_and_scored_again_where_files_changed(songs, where, tmp_path, capsys):
    """As musdb writes them: one that is right, one that is shifted, one that is short."""
    folder = tmp_path / "mytool"
    for song in SONGS:
        for source in ("vocals", "accompaniment"):
            write(folder / "test" / song / f"{source}.wav", estimate(songs, song, source))
    write(folder / "test" / SONGS[1] / "vocals.wav", np.roll(estimate(songs, SONGS[1], "vocals"), 1105, axis=0))
    write(folder / "test" / SONGS[2] / "vocals.wav", estimate(songs, SONGS[2], "vocals")[:-100])
    run = sepkit.given(estimates=folder, root=where["root"])
    first = sepkit.evaluate(run, **where)
    assert (run.name, set(first["accompaniment"]), set(first["protocol"])) == ("mytool", {"modelled"}, {"2stem"})
    assert set(read_frames(run.path / "frames.csv")["track"]) == set(SONGS)
    sources = ("vocals", "accompaniment")
    of_arrays = Targets({name: truth(songs, SONG, name).T for name in sources})
    for row in of_arrays.score({name: estimate(songs, SONG, name).T for name in sources})[0]:
        ours = values(first, SONG)[row["source"], row["metric"]]
        np.testing.assert_allclose(ours, row["value"], atol=1e-4, err_msg=str(row))
    late = f"mytool: {SONGS[1]}: vocals.wav comes 1105 samples late; it is scored as it is"
    short = "vocals.wav has 100 samples fewer than the mixture's 44100"
    assert short in first.attrs["unscored"][SONGS[2]]
    assert values(first, SONGS[1])["vocals", "si_sdr"] < -10 < values(first, SONG)["vocals", "si_sdr"]
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if "comes" in line] == [late]
    assert any(short in line and SONGS[2] in line for line in lines)

    write(folder / "test" / SONGS[2] / "vocals.wav", estimate(songs, SONGS[2], "vocals"))
    second = sepkit.evaluate("mytool", **where)
    out = capsys.readouterr().out
    assert f"its estimates changed since {SONGS[2]} was scored" in out
    assert "score mytool 1/1" in out
    assert late in out
    assert not second.attrs["unscored"]
    assert second[second["track"] != SONGS[2]].equals(first[first["track"] != SONGS[2]])
    shutil.rmtree(folder)  # the scores stay, as a run's do without its songs
    assert sepkit.evaluate("mytool", **where).equals(second)


def test_they_stand_in_scoreboard_comparison_and_report(songs, where, tmp_path, capsys):
    for song in SONGS:
        write(tmp_path / "theirs" / song / "vocals.wav", estimate(songs, song, "vocals"))
    place = ["--root", str(where["root"]), "--data", str(songs), "--jobs", "1"]
    assert main(["evaluate", "--estimates", str(tmp_path / "theirs"), "--name", "Their tool", *place]) == 0
    assert main(["evaluate", "Their tool", *place]) == 0
    assert "score Their tool 1/3" in capsys.readouterr().out
    sepkit.evaluate("mixture", **where)
    test = sepkit.compare("Their tool", "mixture", root=where["root"])
    assert (test.n, test.median_difference) == (len(SONGS), pytest.approx(12.7, abs=0.3))
    board = sepkit.scoreboard(where["root"]).set_index("Exp")
    assert board.loc["Their tool", "Backbone"] == "—"
    assert board.loc["Their tool", ["GPU min", "CPU min"]].isna().all()
    assert board.loc["Their tool", "accompaniment"] == "residual"
    report = sepkit.report(where["root"]).read_text(encoding="utf-8")
    assert "theirs --name &#39;Their tool&#39;" in report
    assert "grid --profile" not in report


@pytest.mark.parametrize("name", ["no_vocals.flac", "Instrumental.wav", "accompaniment.wav"])
def test_plain_folders_and_other_names_of_the_accompaniment(name, songs, tmp_path):
    write(tmp_path / SONG / "vocals.wav", estimate(songs, SONG, "vocals"))
    write(tmp_path / SONG / name, 0.9 * truth(songs, SONG, "accompaniment"))
    read = FileEstimate(tmp_path, "2stem", RATE)
    given = read(truth(songs, SONG, "mixture").T, {}, SONG)
    assert read.sources == ("vocals", "accompaniment")
    np.testing.assert_array_equal(given["vocals"], estimate(songs, SONG, "vocals").T)
    np.testing.assert_allclose(given["accompaniment"], 0.9 * truth(songs, SONG, "accompaniment").T, atol=1e-6)


def test_without_a_file_the_accompaniment_is_the_residual_or_the_sum_of_the_stems(songs, tmp_path):
    mixture = truth(songs, SONG, "mixture").T
    write(tmp_path / SONG / "vocals.wav", estimate(songs, SONG, "vocals"))
    given = FileEstimate(tmp_path, "2stem", RATE)(mixture, {}, SONG)
    np.testing.assert_array_equal(given["accompaniment"], mixture - given["vocals"])
    with pytest.raises(SepkitError, match="has no drums and no bass and no other of it"):
        FileEstimate(tmp_path, "4stem", RATE)(mixture, {}, SONG)
    for source in ("drums", "bass", "other"):
        write(tmp_path / SONG / f"{source}.wav", truth(songs, SONG, source))
    for protocol in ("2stem", "4stem"):
        given = FileEstimate(tmp_path, protocol, RATE)(mixture, {}, SONG)
        np.testing.assert_allclose(given["accompaniment"], truth(songs, SONG, "accompaniment").T, atol=1e-6)


def nan(samples):
    return np.concatenate([np.full((3, 2), np.nan, np.float32), samples[3:]])


BAD = {
    "vocals.wav has 7 samples more than the mixture's 44100": lambda samples: (np.pad(samples, ((0, 7), (0, 0))), RATE),
    "vocals.wav is at 48000 Hz and scores are at 44100 Hz": lambda samples: (samples, 48000),
    "vocals.wav is mono": lambda samples: (samples[:, 0], RATE),
    "vocals.wav is silent": lambda samples: (0 * samples, RATE),
    "vocals.wav holds 6 samples that are not finite": lambda samples: (nan(samples), RATE),
}


@pytest.mark.parametrize("said", BAD)
def test_a_bad_file_is_told_in_one_sentence(said, songs, tmp_path):
    write(tmp_path / SONG / "vocals.wav", *BAD[said](estimate(songs, SONG, "vocals")))
    read = FileEstimate(tmp_path, "2stem", RATE)
    with pytest.raises(SepkitError, match=said):
        read(truth(songs, SONG, "mixture").T, {}, SONG)
    with pytest.raises(SepkitError, match="has no vocals of it"):
        read(truth(songs, SONG, "mixture").T, {}, SONGS[1])


def test_folders_of_other_songs_are_named(songs, tmp_path, capsys):
    for song in ("A song of another set", "Bjo\u0308rn"):  # as macOS writes it
        write(tmp_path / song / "vocals.wav", np.zeros((10, 2)))
    read = FileEstimate(tmp_path, "2stem", RATE)
    with pytest.raises(
        SepkitError, match=r"Expected estimates such as .*T0 - Test/vocals\.wav .* found A song of anot"
    ):
        read.require_some(SONGS)
    read.require_some(["Bj\u00f6rn"])
    assert "1 folders are no songs of this split: A song of another set" in capsys.readouterr().out


def test_wrong_folders_and_names_are_wrong_calls(tmp_path):
    root = Root.open(tmp_path / "root")
    with pytest.raises(UsageError, match="There is no folder"):
        sepkit.given(estimates=tmp_path / "absent", root=root)
    with pytest.raises(UsageError, match="There is no protocol"):
        sepkit.given(estimates=tmp_path, protocol="3stem", root=root)
    for name in ("Base", "oracle", ".hidden", "a/b"):
        with pytest.raises(UsageError, match="can't be the name"):
            sepkit.given(name, estimates=tmp_path, root=root)
    with pytest.raises(UsageError, match="mdx_extra was trained on MUSDB18's test songs"):
        sepkit.given("mdx_extra", estimates=tmp_path, root=root)
    trained = root.run("Base-s0").path
    trained.mkdir(parents=True)
    (trained / "config.json").write_text('{"experiment": "Base"}')
    with pytest.raises(UsageError, match=r"Base-s0 under .* was trained here"):
        sepkit.given("Base-s0", estimates=tmp_path, root=root)
    assert main(["evaluate", "--root", str(root.path)]) == 2
    assert main(["evaluate", "Base", "--estimates", str(tmp_path), "--root", str(root.path)]) == 2


@pytest.mark.parametrize("lag", [0, 20, -20, 2000, -44100])
def test_a_lag_is_found_in_noise_and_in_a_tone_with_overtones(lag):
    rng, time = np.random.default_rng(1), np.arange(3 * RATE) / RATE
    voice = sum(np.sin(2 * np.pi * (220 * time + 3 * np.sin(time)) * k) / k for k in range(1, 12))
    for sound in (rng.normal(size=(2, 3 * RATE)), np.stack([voice, 0.5 * voice])):
        assert lag_of(estimate=np.roll(sound, lag, axis=-1) + 0.1, target=sound, most=RATE) == lag
    assert lag_of(estimate=np.roll(rng.normal(size=(2, RATE)), 1, axis=-1), target=sound[:, :RATE], most=RATE) == 0


def test_no_lag_is_claimed_of_unlike_sounds():
    one, two = np.random.default_rng(2).normal(size=(2, 2, RATE))
    assert lag_of(estimate=one, target=two, most=RATE) == 0


def test_noise_as_museval_itself_scores_it_reads_what_museval_publishes(tmp_path):
    """museval's regression test: uniform noise as the estimates of a song of the 7-second set."""
    published, folder = json.loads(STORED.read_text(encoding="utf-8"))["published"], os.environ.get("MUSDB_PATH")
    if not folder:
        pytest.skip("set MUSDB_PATH to the folder of MUSDB18's 7-second set")
    (track,) = (track for track in find_songs(folder).tracks if track.name == published["song"])
    audio, rate = read_song(track)
    rng = np.random.RandomState(0)
    for source in ("vocals", "accompaniment"):
        write(tmp_path / track.name / f"{source}.wav", rng.random_sample(audio["mixture"].T.shape), rate)
    given = FileEstimate(tmp_path, "2stem", rate)(audio["mixture"], {}, track.name)
    scored = Targets({"vocals": audio["vocals"], "accompaniment": accompaniment(audio)}, rate).score(given)[1]
    ours = [row["sdr_bsseval"] for row in scored if row["source"] == "vocals"]
    np.testing.assert_allclose(ours, np.array(published["scores"]["sdr"][0], float), atol=1e-4)
