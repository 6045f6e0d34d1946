"""One training on several devices: Lightning starts a process for each, a rank, which takes its part of every batch.

Only the trainer runs in ranks; rank 0 writes each epoch's files, the process that called `train` all others.
"""

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from multiprocessing import current_process
from typing import Any

import torch
from lightning.fabric.plugins.environments import LightningEnvironment
from lightning.pytorch.strategies import DDPStrategy
from torch import Tensor, distributed, nn
from torch.multiprocessing.spawn import ProcessException

from sepkit import errors
from sepkit.devices import kept_memory, one_thread
from sepkit.errors import SepkitError
from sepkit.parallel import end_with
from sepkit.storage import Run
from sepkit.storage.ledger import session_started
from sepkit.training.nodes import Shared, node_rank


@contextmanager
def computing(device: str) -> Iterator[None]:
    """How training computes on `device`; the caller's random state is put back, and Lightning is silent."""
    fork = torch.random.fork_rng(devices=range(torch.cuda.device_count()))
    with fork, one_thread(device), kept_memory(device), quiet_lightning():
        yield


class Together(DDPStrategy):
    """Lightning's ddp_spawn, whose ranks compute as one process does, also inside a job of SLURM or torchrun."""

    def __init__(self, device: str, shared: Shared) -> None:
        # buffers are equal on all ranks, which may have different numbers of validation batches
        how: dict[str, Any] = {"broadcast_buffers": False, "find_unused_parameters": shared.strategy.endswith("_true")}
        super().__init__(start_method="spawn", cluster_environment=LightningEnvironment(), **how)
        self.device, self.entered = device, ExitStack()

    def setup_environment(self) -> None:
        end_with(os.getppid())
        self.entered.enter_context(computing(self.device))  # until the process ends
        if not self.local_rank:
            current_process().name = "MainProcess"  # the one that shows a bar
        super().setup_environment()
        if self.num_nodes > 1:  # only node 0 knows what a run starts from; an average of the weights begins there
            network: Any = self.lightning_module
            network.load_state_dict(self.broadcast(network.state_dict()))

    def setup(self, trainer: Any) -> None:
        model: Any = self.model
        for layer in model.modules():
            if type(layer) is nn.BatchNorm1d:
                layer.__class__ = Norm
        super().setup(trainer)


@contextmanager
def ranks_of(run: Run, num_nodes: int) -> Iterator[None]:
    """Around the start of ranks: their errors become one sentence, and the environment is put back."""
    before = dict(os.environ)
    os.environ["NODE_RANK"] = str(node_rank() if num_nodes > 1 else 0)  # for Lightning
    os.environ["SEPKIT_STARTED"] = str(session_started())
    try:
        yield
    except ProcessException as error:  # its last line is the rank's own error, or the signal
        last = error.msg.strip().splitlines()[-1]
        kind, _, sentence = last.partition(": ")
        if kind.startswith("sepkit.errors."):
            raise getattr(errors, kind.rpartition(".")[2])(sentence) from error
        again = "the same call goes on" if num_nodes == 1 else "the same call goes on, on all nodes"
        why = last.partition(". ")[0]
        raise SepkitError(f"{run.name}: rank {error.error_index} ended ({why}); {again}.") from error
    finally:
        os.environ.clear()
        os.environ.update(before)


class Norm(nn.BatchNorm1d):
    """Batch normalisation over the batch of all ranks; torch's SyncBatchNorm has no CPU, and is no BatchNorm1d to freeze."""

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return super().forward(x)
        count, dtype, x = len(x) * distributed.get_world_size(), x.dtype, x.float()
        mean = _Mean.apply(x.mean(dim=0))
        variance = _Mean.apply((x - mean).square().mean(dim=0))
        with torch.no_grad():
            kept: Any = self
            kept.num_batches_tracked += 1
            kept.running_mean.lerp_(mean, self.momentum)
            kept.running_var.lerp_(variance * count / (count - 1), self.momentum)
        return ((x - mean) * (variance + self.eps).rsqrt() * self.weight + self.bias).to(dtype)


class _Mean(torch.autograd.Function):
    """The mean over ranks; the gradient is that of the sum of all ranks' losses, which DDP makes a mean."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        x = x / distributed.get_world_size()
        distributed.all_reduce(x)
        return x

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return _Mean.forward(ctx, gradients[0])


@contextmanager
def quiet_lightning() -> Iterator[None]:
    """Without Lightning's banner and its advice on loaders."""
    with ExitStack() as after, warnings.catch_warnings():
        for logger in map(logging.getLogger, ("lightning.pytorch", "lightning.fabric", "torch.multiprocessing.spawn")):
            after.callback(logger.setLevel, logger.level)
            logger.setLevel(logging.ERROR)
        warnings.filterwarnings("ignore", module=r"lightning\..*")
        warnings.filterwarnings("ignore", message=r".*(does not have many workers|isinstance\(treespec|LeafSpec).*")
        yield
