"""The menu: every row builds, learns one step, and says what it is about."""

import json

import pytest
import torch

from sepkit import models
from sepkit.data.augment import make_augment
from sepkit.errors import UsageError
from sepkit.experiments import MENU, get_experiment, resolve
from sepkit.profiles import PROFILES
from sepkit.training.losses import make_loss

DAYS = {
    "Base": 1, "UMX": 2, "F": 2, "C": 3, "C2": 3, "D-pitch": 3, "D-time": 3, "C+D": 3, "A": 4, "G": 4, "B": 5,
}  # fmt: skip


def test_the_rows_stand_in_the_order_of_their_days():
    assert {name: row.day for name, row in MENU.items()} == DAYS
    assert list(DAYS.values()) == sorted(DAYS.values())
    assert [name for name, row in MENU.items() if row.default_week] == ["Base", "F", "C+D", "A"]


@pytest.mark.parametrize("row", MENU.values(), ids=list(MENU))
def test_a_row_says_what_it_is_about(row):
    texts = (
        row.title,
        row.hypothesis,
        row.change,
        row.plan,
        row.literature,
        row.backbone,
        row.domain,
        row.extras,
    )
    assert all(texts)


@pytest.mark.parametrize("profile", PROFILES.values(), ids=list(PROFILES))
@pytest.mark.parametrize("row", MENU.values(), ids=list(MENU))
def test_a_row_resolves_to_plain_data_that_builds(row, profile):
    settings = resolve(row, profile)
    assert json.loads(json.dumps(settings, allow_nan=False))["training"] == settings["training"]
    model = models.build(**settings["model"])
    assert model.sample_rate == profile.sample_rate
    assert model.sources[0] == "vocals"
    make_loss(**settings["loss"])
    make_augment(settings["training"]["augment"])


@pytest.mark.parametrize("row", MENU.values(), ids=list(MENU))
def test_a_demo_step_of_a_row_lowers_its_loss(row):
    torch.manual_seed(0)
    settings = resolve(row, PROFILES["demo"])
    model, loss = models.build(**settings["model"]).train(), make_loss(**settings["loss"])
    target = 0.1 * torch.randn(2, len(model.sources), 2, 11025)
    mixture = target.sum(dim=1)
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=2e-3)
    values = []
    for _ in range(6):
        torch.manual_seed(1)  # the same dropout and the same bins
        optimizer.zero_grad()
        value = loss(model, mixture, target)
        value.backward()
        optimizer.step()
        values.append(float(value.detach()))
    assert values[-1] < values[0]


def test_each_row_differs_from_base_in_its_one_change():
    base = resolve(MENU["Base"], PROFILES["full"])

    def differences(name):
        own = resolve(MENU[name], PROFILES["full"])
        flat = lambda s: {f"{k}.{n}": v for k in ("model", "loss", "training") for n, v in s[k].items()}  # noqa: E731
        return {
            key for key in flat(own).keys() | flat(base).keys() if flat(own).get(key) != flat(base).get(key)
        }

    assert differences("C") == {"loss.name"}
    assert differences("D-pitch") == differences("D-time") == {"training.augment"}
    assert differences("C+D") == {"loss.name", "training.augment"}
    assert differences("B") == {"model.name", "loss.weights"}
    assert differences("A") == {"model.name", "loss.name", "loss.alpha", "training.epochs"}


def test_c_plus_d_is_c_and_both_arms_of_d():
    rows = {name: resolve(MENU[name], PROFILES["full"]) for name in ("C", "D-pitch", "D-time", "C+D")}
    assert rows["C+D"]["loss"] == rows["C"]["loss"]
    assert rows["C+D"]["training"]["augment"] == {"pitch_semitones": 2.0, "tempo": 0.1}
    assert rows["D-pitch"]["training"]["augment"] == {"pitch_semitones": 2.0}
    assert rows["D-time"]["training"]["augment"] == {"tempo": 0.1}


def test_f_starts_from_umxhq_and_in_the_demo_from_the_row_that_has_its_shape():
    assert resolve(MENU["F"], PROFILES["full"])["start_from"] == "umxhq"
    assert resolve(MENU["F"], PROFILES["preview"])["start_from"] == "umxhq"
    demo = resolve(MENU["F"], PROFILES["demo"])
    assert demo["start_from"] == "UMX"
    start = models.build(**resolve(MENU["UMX"], PROFILES["demo"])["model"])
    models.build(**demo["model"]).load_pretrained(start.state_dict(), "UMX-s0/best.ckpt")
    assert resolve(MENU["Base"], PROFILES["demo"])["start_from"] is None


def test_learning_rates_and_epochs_where_profile_and_row_meet():
    def training(name, profile):
        return resolve(MENU[name], PROFILES[profile])["training"]

    assert training("Base", "full")["learning_rate"] == 3e-4
    assert training("Base", "preview")["learning_rate"] == 3e-3
    assert [training("F", profile)["learning_rate"] for profile in ("full", "preview")] == [1e-5, 1e-5]
    assert [training("UMX", profile)["learning_rate"] for profile in ("full", "preview")] == [1e-3, 1e-3]
    assert training("F", "demo")["learning_rate"] < training("UMX", "demo")["learning_rate"]
    assert (training("F", "full")["epochs"], training("F", "full")["patience"]) == (10, 3)
    assert training("A", "full")["epochs"] == 15
    assert all(training("A", profile)["segment_s"] <= 6 for profile in PROFILES)


def test_an_unknown_row_is_refused_with_the_names():
    with pytest.raises(UsageError, match=r"'Z'.*Base.*C\+D"):
        get_experiment("Z")
