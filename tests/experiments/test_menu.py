"""The menu as data: what every entry becomes under a profile, and that an ablation is one change."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from sepkit import models
from sepkit.errors import UsageError
from sepkit.experiments import MENU, Experiment, choose_week, get_experiment, resolve, week_experiments
from sepkit.experiments.ablations import variant
from sepkit.profiles import PROFILES

RESOLVED = Path(__file__).parent / "resolved.json"
EXPERIMENTS = pytest.mark.parametrize("experiment", MENU.values(), ids=list(MENU))


def flat(experiment, profile):
    """Settings as JSON keeps them, by dotted name."""
    settings = json.loads(json.dumps(resolve(experiment, profile), allow_nan=False))
    return {
        f"{part}.{key}" if key else part: value
        for part, own in settings.items()
        for key, value in (own.items() if isinstance(own, dict) else [("", own)])
    }


def differences(own, base):
    """{name: value} of what differs; "absent" where `own` lacks it."""
    return {key: own.get(key, "absent") for key in sorted(own | base) if own.get(key, "absent") != base.get(key)}


def table():
    """{profile: {"Base": its settings, other experiment: where its settings differ from Base's}}."""
    found = {}
    for name, profile in PROFILES.items():
        base = flat(MENU["Base"], profile)
        others = {key: differences(flat(of, profile), base) for key, of in MENU.items() if key != "Base"}
        found[name] = {"Base": base, **others}
    return found


def test_all_settings_are_those_that_stored_runs_were_made_with():
    """A run is refused where its config.json differs, so no setting may change unseen."""
    assert table() == json.loads(RESOLVED.read_text(encoding="utf-8"))


def test_the_menu_needs_neither_torch_nor_pandas():
    """pandas, imported before IPython is there, shows its tables as for a terminal in every cell."""
    code = "import sys, sepkit.experiments; print({'torch', 'pandas'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_the_week_is_in_the_order_of_its_days():
    days = [MENU[name].day for name in week_experiments()]
    assert days == sorted(days)
    assert set(days) == {1, 2, 3, 4, 5}  # days 6 and 7 train nothing


HOURS = {"Base": 0.5, "F": 0.5, "C+D": 0.5, "A": 2.0, "C": 0.5, "D-pitch": 0.4, "D-time": 0.4, "B": 0.5, "Best": 0.6}


@pytest.mark.parametrize(
    "hours, expected",
    [
        (8.0, "Base F C+D A B Best"),  # the plan's week, then B where time is left, then Best
        (4.0, "Base F C+D A B"),
        (3.9, "Base F C+D A"),  # neither B nor folds fit
        (3.4, "Base F C D-pitch D-time B Best"),  # short of time: F, C, D in the plan's order
        (2.0, "Base F C D-pitch"),
        (1.2, "Base F"),
        (0.4, "D-pitch"),
    ],
)
def test_the_default_week_is_the_plan_s(hours, expected):
    week = choose_week(lambda name, folds: HOURS[name] * (3 if folds else 1), hours)
    assert " ".join(line.experiment for line in week if line.within) == expected
    assert not any(line.folds and line.within for line in week)


def test_where_b_finds_no_time_the_best_configuration_is_trained_in_three_folds():
    hours = {**HOURS, "F": 0.1, "B": 0.8, "Best": 0.2}
    week = choose_week(lambda name, folds: hours[name] * (3 if folds else 1), 3.7, best="F")
    assert [(line.experiment, line.folds) for line in week if line.within][4:] == [("F", True), ("Best", False)]
    finished = dict.fromkeys(HOURS, 0.0)  # what is finished costs nothing more
    assert all(line.within for line in choose_week(lambda name, folds: finished[name], 0.0))


@EXPERIMENTS
def test_an_entry_says_what_it_is_about(experiment):
    about = ("change", "hypothesis", "plan", "literature", "backbone", "domain", "extras")
    assert all(getattr(experiment, name) for name in about)


def changed(experiment, profile):
    return set(differences(flat(experiment, profile), flat(MENU[experiment.variant_of], profile)))


def test_every_ablation_is_one_change_and_no_two_experiments_say_the_same():
    for name, experiment in MENU.items():
        if experiment.variant_of:
            preview, full = (changed(experiment, PROFILES[profile]) for profile in ("preview", "full"))
            keys = full | preview - {"training.epochs"}  # in the preview, the epochs of the same minutes
            parts = {key.split(".")[0] for key in keys} - {"experiment", "weights_of"}
            assert len(parts) == 1, name
    assert len({experiment.change for experiment in MENU.values()}) == len(MENU)


def test_a_variant_adds_to_a_mapping_and_replaces_one_with_a_name():
    own = variant("Best", "x", "x", "y", augment={"gain_db": 1.0}, profiles={"preview": {"training": {"epochs": 9}}})
    best = MENU["Best"]
    assert own.augment == {**best.augment, "gain_db": 1.0}
    assert own.profiles["demo"] == best.profiles["demo"]
    assert own.profiles["preview"]["training"] == {**best.profiles["preview"]["training"], "epochs": 9}
    assert variant("Base", "x", "x", "y", loss={"name": "waveform_l1"}).loss == {"name": "waveform_l1"}
    assert best.augment == {"pitch_semitones": 2.0, "tempo": 0.1, "probability": 0.5}


def test_own_settings_under_a_profile_come_last():
    own = {"training": {"learning_rate": 7.0}, "model": {"hidden_size": 5}, "start_from": "UMX"}
    experiment = Experiment("x", 1, "x", "y", learning_rate=1.0, model={"name": "umxhq", "hidden_size": 6},
                            start_from="umxhq", profiles={"demo": own})  # fmt: skip
    demo, full = (resolve(experiment, PROFILES[name]) for name in ("demo", "full"))
    assert (demo["training"]["learning_rate"], demo["model"]["hidden_size"], demo["start_from"]) == (7.0, 5, "UMX")
    assert (full["training"]["learning_rate"], full["model"]["hidden_size"], full["start_from"]) == (1.0, 6, "umxhq")


def test_in_the_demo_f_starts_from_an_experiment_of_its_shape():
    start, own = (models.build(**resolve(MENU[name], PROFILES["demo"])["model"]) for name in ("UMX", "F"))
    own.load_state_dict(start.state_dict())


def test_an_unknown_experiment_is_refused_with_the_names():
    with pytest.raises(UsageError, match=r"'Z'.*Base.*C\+D"):
        get_experiment("Z")
