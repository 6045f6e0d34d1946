"""Checkpoints in the formats of openunmix's and demucs's own training, with weights from a seed."""

import json

import torch
from openunmix.model import OpenUnmix


def draw(klass, *args, **settings):
    """A network whose weights and statistics are all random."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        network = klass(*args, **settings)
        for name, value in network.state_dict().items():
            if name.endswith("running_var"):
                value.uniform_(0.5, 2)
            elif klass is OpenUnmix and value.is_floating_point():
                value.normal_(std=0.1)
    return network.eval()


def write_openunmix(file, *, hidden_size=512, n_fft=4096, max_bin=None, beside=True):
    """<target>.pth, and with `beside` <target>.json and separator.json, as openunmix's train.py leaves them."""
    network = draw(OpenUnmix, nb_bins=n_fft // 2 + 1, nb_channels=2, hidden_size=hidden_size, max_bin=max_bin)
    torch.save(network.state_dict(), file)
    if beside:
        args = {"nfft": n_fft, "nhop": n_fft // 4, "nb_channels": 2, "hidden_size": hidden_size}
        file.with_suffix(".json").write_text(json.dumps({"epochs_trained": 1, "args": args}))
        facts = {"nfft": n_fft, "nhop": n_fft // 4, "sample_rate": 44100.0, "nb_channels": 2}
        file.with_name("separator.json").write_text(json.dumps(facts))
    return file


def write_demucs(file, klass, *, half=False, **settings):
    """What demucs.states.serialize_model makes, but for its settings of training; returns the network."""
    network = draw(klass, ["drums", "bass", "other", "vocals"], **settings)
    state = {key: value.half() if half else value for key, value in network.state_dict().items()}
    args, kwargs = network._init_args_kwargs
    torch.save({"klass": klass, "args": args, "kwargs": kwargs, "state": state, "training_args": {"lr": 3e-4}}, file)
    network.load_state_dict({key: value.float() for key, value in state.items()})
    return network
