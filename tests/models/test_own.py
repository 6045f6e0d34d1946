"""Networks from outside the package: what they are asked before work starts, and one sentence for each fault."""

import re
import sys
from pathlib import Path

import pytest
import torch

from sepkit import models
from sepkit.errors import SepkitError, UsageError
from sepkit.experiments import Experiment, entry_of, get_experiment, picked, resolve
from sepkit.profiles import PROFILES
from sepkit.storage.checkpoints import load_model
from sepkit.training.asked import checked
from sepkit.training.train import train, train_many

MODULE = '''
import torch
from torch import nn

from sepkit.dsp import STFT
from sepkit.experiments import Experiment
from sepkit.models import Network


class Gain(nn.Module, Network):
    """A gain a channel."""

    stft = None

    def __init__(self, sample_rate, gain=0.5):
        super().__init__()
        self.sources, self.sample_rate = ("vocals",), sample_rate
        self.gain = nn.Parameter(torch.full((2, 1), gain))

    def forward(self, mixture):
        return (mixture * self.gain)[:, None]


class Plain(nn.Module):
    pass


class NoSources(Gain):
    def __init__(self, sample_rate):
        super().__init__(sample_rate)
        self.sources = "vocals"


class Silent(Gain):
    def __init__(self, sample_rate):
        super().__init__(sample_rate)
        self.sources = ("singing",)


class Deaf(Gain):
    def __init__(self, sample_rate):
        super().__init__(44100)


class Drawn(Gain):
    stft = "1024/256"


class Fixed(Gain):
    def __init__(self, sample_rate):
        super().__init__(sample_rate)
        self.gain.requires_grad_(False)


class Flat(Gain):
    def forward(self, mixture):
        return mixture * self.gain


class Even(Gain):
    """Whole strides only: what is left over is lost."""

    def forward(self, mixture):
        return super().forward(mixture)[..., : mixture.shape[-1] // 4 * 4]


class Broken(Gain):
    def forward(self, mixture):
        return mixture @ self.gain


class Infinite(Gain):
    def forward(self, mixture):
        return super().forward(mixture) / 0


class Detached(Gain):
    def forward(self, mixture):
        return super().forward(mixture).detach()


class Four(Gain):
    def __init__(self, sample_rate, sources=("vocals", "drums", "bass", "other")):
        super().__init__(sample_rate)
        self.sources = tuple(sources)

    def forward(self, mixture):
        return super().forward(mixture).repeat(1, 4, 1, 1)


class NoRate(Gain):
    def __init__(self, gain=0.5):
        super().__init__(22050, gain)


class Fails(Gain):
    def __init__(self, sample_rate, size=3):
        raise ValueError("size must be even")


WAVES = {"loss": {"name": "waveform_l1"}}
Tiny = Experiment("Tiny", "a gain", "It helps.", extras="tiny", model={"name": "own_nets:Gain", "gain": 0.25}, **WAVES)
MASKS = Experiment("MASKS", "a gain", "It helps.", model={"name": "own_nets:Gain"})
OTHER = Experiment("Another", "a gain", "It helps.", model={"name": "own_nets:Gain"}, **WAVES)
BASE = Experiment("BASE", "a gain", "It helps.", model={"name": "own_nets:Gain"}, **WAVES)
number = 3
'''


@pytest.fixture(scope="module", autouse=True)
def module(tmp_path_factory):
    """The module own_nets, in a folder outside the package that is the current one."""
    folder = tmp_path_factory.mktemp("outside")
    (folder / "own_nets.py").write_text(MODULE)
    (folder / "own_faulty.py").write_text("import no_such_package\n")
    (folder / "own_broken.py").write_text("class\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.syspath_prepend(folder)
        yield folder


def check(called):
    return checked(resolve(get_experiment(called), PROFILES["demo"]))


def test_a_class_is_built_by_its_name_with_its_settings():
    model = models.build("own_nets:Gain", sample_rate=22050, gain=0.25)
    assert (model.name, model.sample_rate) == ("own_nets:Gain", 22050)
    assert (model.gain == 0.25).all()
    assert models.settings_of("own_nets:Gain")["gain"] == 0.5


def test_what_fits_is_taken_and_draws_nothing_from_the_callers_random_state():
    before = torch.get_rng_state()
    assert check("own_nets:Tiny").name == "own_nets:Gain"
    assert check("own_nets:Gain").gain[0].item() == 0.5
    assert (torch.get_rng_state() == before).all()


@pytest.mark.parametrize(
    ("called", "said"),
    [
        ("no_nets:Gain", "needs the module no_nets, but there is no no_nets.py in "),
        ("own_nets.deeper:Gain", "own_nets.deeper"),
        ("own_faulty:Gain", "importing it raises ModuleNotFoundError: No module named 'no_such_package'"),
        ("own_broken:Gain", "importing it raises SyntaxError"),
        ("own_nets:Missing", "has no attribute 'Missing'"),
        ("own_nets:3", "Expected package.module:Name, got 'own_nets:3'"),
        ("own_nets:number", "Expected a sepkit Experiment or a network's class at own_nets:number, found a int"),
        ("own_nets:Plain", "to be a class of nn.Module and sepkit.models.Network"),
        ("own_nets:OTHER", "with the name of its variable, but its name is 'Another'"),
        ("own_nets:BASE", "but Base is sepkit's own"),
        ("own_nets:NoSources", "Expected sources of own_nets:NoSources to be a tuple with vocals"),
        ("own_nets:Silent", "found ('singing',)"),
        ("own_nets:Deaf", "Expected sample_rate of own_nets:Deaf to be 22050, as it is made with; found 44100"),
        ("own_nets:Drawn", "Expected stft of own_nets:Drawn to be None, or of a network on spectra a sepkit.dsp.STFT"),
        ("own_nets:Fixed", "Expected own_nets:Fixed to have parameters that training changes; found none"),
        ("own_nets:Flat", "(batch, source, channel, time) = (2, 1, 2, 33075) of a mixture (2, 2, 33075)"),
        ("own_nets:Even", "found (2, 1, 2, 33072)"),
        ("own_nets:Broken", "found RuntimeError: "),
        ("own_nets:Infinite", "found values that are not finite"),
        ("own_nets:Detached", "The loss waveform_l1 of own_nets:Detached can't be computed: RuntimeError"),
        ("own_nets:Four", "model={…, 'sources': ('vocals', 'drums', 'bass', 'other')}"),
        ("own_nets:NoRate", "own_nets:NoRate has no setting sample_rate; it takes gain"),
        ("own_nets:Fails", "own_nets:Fails can't be made with the settings {'sample_rate': 22050}: ValueError: size must"),
        ("own_nets:MASKS", "own_nets:Gain works on waveforms; train it with waveform_l1"),
    ],
)  # fmt: skip
def test_a_fault_is_one_sentence_before_any_work(called, said, root, mini_songs):
    with pytest.raises(UsageError, match=re.escape(said)) as caught:
        train(called, data=mini_songs, root=root, profile="demo", device="cpu")
    assert "\n" not in str(caught.value)
    with pytest.raises(UsageError, match=re.escape(said)):  # nor does the first of several begin
        train_many(["Base", called], data=mini_songs, root=root, profile="demo", device="cpu")
    assert not (root.path / "runs").exists()


def test_no_day_of_a_week_trains_it():
    with pytest.raises(UsageError, match=r"not \['Tiny'\]; use `train` or `grid`"):
        picked(["own_nets:Tiny"], PROFILES["demo"])


def test_four_sources_are_named_by_the_experiment():
    stems = ["vocals", "drums", "bass", "other"]
    entry = Experiment("Stems", "four gains", "—", model={"name": "own_nets:Four", "sources": stems}, loss={"name": "waveform_l1"})  # fmt: skip
    assert checked(resolve(entry, PROFILES["demo"])).sources == tuple(stems)


def test_a_run_keeps_what_the_scoreboard_says_of_it(root, mini_songs, tiny):
    where = {"profile": tiny, "data": mini_songs, "root": root, "device": "cpu"}
    run = train("own_nets:Tiny", **where)
    entry = entry_of(run.config)
    assert (run.name, entry.extras, entry.backbone, entry.domain) == ("Tiny-s0", "tiny", "Gain", "waveform")
    assert train("own_nets:Tiny", **where).path == run.path  # finished: returned as it is
    alone = entry_of(train("own_nets:Gain", **where).config)
    assert (alone.name, alone.change, alone.called) == ("Gain", "the network Gain, trained with waveform L1", "own_nets:Gain")  # fmt: skip
    fine = Experiment("Fine", "from Tiny", "—", model={"name": "own_nets:Gain", "gain": 0.25}, loss={"name": "waveform_l1"}, start_from="own_nets:Tiny")  # fmt: skip
    assert train(fine, **where).config["start_from"] == "own_nets:Tiny"


def test_a_run_whose_module_is_gone_says_so(root, mini_songs, tiny):
    run = train("own_nets:Gain", profile=tiny, data=mini_songs, root=root, device="cpu")
    text = (run.path / "config.json").read_text().replace("own_nets:Gain", "gone_nets:Gain")
    (run.path / "config.json").write_text(text)
    with pytest.raises(SepkitError, match=re.escape("there is no gone_nets.py in ")):
        load_model(run)


def test_a_changed_file_is_told_wherever_its_run_is_used(root, mini_songs, tiny, capsys):
    where = {"profile": tiny, "data": mini_songs, "root": root, "device": "cpu"}
    run, file = train("own_nets:Tiny", **where), Path(sys.modules["own_nets"].__file__)
    assert [*run.config["code"]] == ["own_nets.py"]
    load_model(run), train("own_nets:Tiny", **where)
    assert "not as it was" not in capsys.readouterr().out
    file.write_text(file.read_text().replace("mixture * self.gain", "mixture + self.gain"))
    for use in (lambda: load_model(run), lambda: train("own_nets:Tiny", **where)):
        use()
        assert "Tiny-s0: own_nets.py is not as it was when this run was begun" in capsys.readouterr().out
