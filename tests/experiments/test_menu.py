"""The menu: every row builds, learns one step, and says what it is about."""

import json

import pytest
import torch

from sepkit import models
from sepkit.data.augment import make_augment
from sepkit.errors import UsageError
from sepkit.experiments import MENU, get_experiment, week_rows
from sepkit.experiments.settings import resolve
from sepkit.profiles import PROFILES
from sepkit.training.estimate import Estimate
from sepkit.training.losses import make_loss

STEMS = ("vocals", "drums", "bass", "other")
NARROW = {
    "demucs-tiny": {"channels": 4},
    "band-split": {"features": 8, "hidden_size": 8, "layers": 1, "mask_hidden_size": 8},
    "tfc-tdf": {"bins": 256, "features": 4, "growth": 4, "scales": 2},
}
DAYS = {
    "Base": 1, "UMX": 2, "F": 2, "C": 3, "C2": 3, "D-pitch": 3, "D-time": 3, "C+D": 3, "A": 4, "G": 4, "H": 4, "B": 5,
    "E": 5, "Best": 6,
}  # fmt: skip


def test_the_curriculum_scales_with_the_profile():
    """The plan's: 3-second clips for 5 of 20 epochs, then 6 s; the preview has 33 epochs."""
    training = {name: resolve(MENU["E"], profile)["training"] for name, profile in PROFILES.items()}
    assert {name: of["curriculum"] for name, of in training.items()} == {
        "demo": [[2, 0.75]], "preview": [[8, 3.0]], "full": [[5, 3.0]]
    }  # fmt: skip
    base = resolve(MENU["Base"], PROFILES["full"])["training"]
    assert {key for key in base if base[key] != training["full"][key]} == {"curriculum"}


def test_the_rows_stand_in_the_order_of_their_days():
    assert {name: MENU[name].day for name in week_rows()} == DAYS
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
    assert model.sample_rate == (row.sample_rate or profile.sample_rate)
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
        value = loss(Estimate(model, mixture), target)
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
    assert differences("C+D") == {"loss.name", "training.augment", "training.epochs"}
    assert differences("B") == {"model.name", "loss.weights"}
    assert differences("A") == {"model.name", "loss.name", "loss.alpha", "training.epochs"}
    assert differences("C-wave") == {"loss.name", "loss.alpha"}
    assert differences("C2") == differences("C-wave") | {"model.name"}
    assert differences("G") == {"model.name", "loss.name", "loss.alpha"}


BEST_AUGMENT = {"pitch_semitones": 2.0, "tempo": 0.1, "probability": 0.5}
ABLATIONS = {  # name: (row that it changes, settings in which it differs)
    "Base-2048": ("Base", {"model.n_fft": 2048, "model.hop_length": 512}),
    "Base-4096": ("Base", {"model.n_fft": 4096, "model.hop_length": 1024}),
    "Base-uniform": ("Base", {"training.sampling": "uniform"}),
    "Base-flat": ("Base", {"loss.alpha": "flat"}),
    "Base-sqrt": ("Base", {"loss.alpha": "sqrt"}),
    "Base-relu": ("Base", {"model.mask_bound": "relu"}),
    "Base-clamp": ("Base", {"model.mask_bound": "clamp"}),
    "Base-32k": ("Base", {"model.sample_rate": 32000}),
    "Base-remix0": ("Base", {"training.remix": 0.0}),
    "Base-remix1": ("Base", {"training.remix": 1.0}),
    "D-gain": ("Base", {"training.augment": {"gain_db": 6.0}}),
    "D-swap": ("Base", {"training.augment": {"swap_channels": 0.5}}),
    "C-wave": ("Base", {"loss.name": "waveform_l1", "loss.alpha": None}),
    "F-all": ("F", {"model.trainable": "all"}),
    "A-nolstm": ("A", {"model.lstm_layers": 0}),
    "Base-4": ("Base", {"model.name": "openunmix-multitask", "model.sources": STEMS}),
    "A-4": ("A", {"model.sources": STEMS}),
    "B-wiener": ("B", {"model.wiener": True, "weights_of.": "B"}),
    "Best-long": ("Best", {"training.epochs": 45}),
    "Best-gain": ("Best", {"training.augment": {**BEST_AUGMENT, "gain_db": 6.0}}),
    "Best-swap": ("Best", {"training.augment": {**BEST_AUGMENT, "swap_channels": 0.5}}),
    "Best-stems": ("Best", {"training.stems": True}),
    "Best-average": ("Best", {"training.ema": 0.995}),
}


def test_every_ablation_is_one_change_of_its_row():
    assert [name for name, row in MENU.items() if row.ablation] == list(ABLATIONS)

    def flat(name):
        own = resolve(MENU[name], PROFILES["preview"])
        parts = {part: own[part] for part in ("model", "loss", "training")}
        # the preview's are those of the same minutes
        parts["training"]["epochs"] = resolve(MENU[name], PROFILES["full"])["training"]["epochs"]
        parts["weights_of"] = {"": own["weights_of"]}
        return {f"{part}.{key}": value for part, settings in parts.items() for key, value in settings.items()}

    for name, (row, changes) in ABLATIONS.items():
        own, base = flat(name), flat(row)
        keys = own.keys() | base.keys()
        assert {key: own.get(key) for key in keys if own.get(key) != base.get(key)} == changes, name
        assert MENU[name].change != MENU[row].change
        assert MENU[name].hypothesis != MENU["Base"].hypothesis


@pytest.mark.parametrize("autocast", [False, True], ids=["float32", "autocast"])
@pytest.mark.parametrize("name", MENU)
def test_every_row_is_finite_on_silence_and_at_full_scale(name, autocast):
    settings = resolve(MENU[name], PROFILES["demo"])
    own = NARROW.get(settings["model"]["name"], {"hidden_size": 8})
    model, loss = models.build(**{**settings["model"], **own}).train(), make_loss(**settings["loss"])
    shape = (2, len(model.sources), 2, 8192)
    for level in (0.0, 1.0):
        target = level * torch.randn(shape, generator=torch.Generator().manual_seed(0)).sign()
        model.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            value = loss(Estimate(model, target.sum(dim=1)), target)
        value.backward()
        assert torch.isfinite(value)
        assert all(p.grad is None or torch.isfinite(p.grad).all() for p in model.parameters())
        if level:
            assert all(p.grad is not None for p in model.parameters() if p.requires_grad)
            with torch.inference_mode():
                assert torch.isfinite(model.eval()(target.sum(dim=1))).all()


def test_c_plus_d_is_c_and_both_arms_of_d():
    rows = {name: resolve(MENU[name], PROFILES["full"]) for name in ("C", "D-pitch", "D-time", "C+D")}
    assert rows["C+D"]["loss"] == rows["C"]["loss"]
    assert rows["C+D"]["training"]["augment"] == {"pitch_semitones": 2.0, "tempo": 0.1}
    assert rows["D-pitch"]["training"]["augment"] == {"pitch_semitones": 2.0}
    assert rows["D-time"]["training"]["augment"] == {"tempo": 0.1}
    assert [rows[name]["training"]["epochs"] for name in ("C", "C+D")] == [20, 15]  # the plan's


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
