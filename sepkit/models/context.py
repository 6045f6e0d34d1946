"""How much of its input a waveform network hears at once."""

import torch
from torch import nn


def context(network: nn.Module, n_samples: int = 22050) -> int:
    """Samples from the first to the last input sample that the middle output sample depends on.

    Measured by the gradient of that output for noise of mean 0 and deviation 1.  Normalisation layers
    compute mean and deviation over the whole clip; both are held fixed, since they carry its level only.

    >>> context(nn.Sequential(nn.Conv1d(2, 4, 9, padding=4), nn.GroupNorm(1, 4), nn.Conv1d(4, 2, 1)))
    9
    """
    noise = torch.randn(1, 2, n_samples, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    noise.requires_grad_()
    norms = [layer for layer in network.modules() if isinstance(layer, nn.GroupNorm)]
    hooks = [
        norm.register_forward_hook(lambda _, inputs, output: output.detach() + inputs[0] - inputs[0].detach())
        for norm in norms
    ]
    network.double().eval()(noise)[..., n_samples // 2].sum().backward()
    for hook in hooks:
        hook.remove()
    assert noise.grad is not None
    heard = torch.nonzero(noise.grad.abs().amax(dim=(0, 1)))
    return int(heard[-1] - heard[0]) + 1
