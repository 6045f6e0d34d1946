"""One training on several devices, also of several machines: node 0 decides and writes, the others lend it their devices.

The same command runs on each, with MASTER_ADDR and MASTER_PORT of node 0 and NODE_RANK, the names that torchrun has.
Node 0 tells the others of each training through a store of torch's at the port above MASTER_PORT.
"""

import atexit
import os
import pickle
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from typing import Any

import torch

from sepkit.devices import pick_device
from sepkit.errors import SepkitError, UsageError
from sepkit.storage import Run

STRATEGIES = ("auto", "ddp_spawn", "ddp_spawn_find_unused_parameters_true")  # auto: ddp_spawn on several devices
COMING = timedelta(minutes=10)  # between the first node and the last one
MEANT = "MASTER_ADDR and MASTER_PORT of node 0, the same on all, and NODE_RANK"


@dataclass(frozen=True)
class Shared:
    """The devices that take part in every batch: so many of each of so many machines, by a strategy of Lightning's."""

    devices: int = 1
    num_nodes: int = 1
    strategy: str = "auto"

    @property
    def ranks(self) -> int:
        return self.devices * self.num_nodes


def node_rank() -> int:
    """Which of the nodes this is: NODE_RANK, or SLURM's; 0 where there is one."""
    given = os.environ.get("NODE_RANK") or os.environ.get("SLURM_NODEID") or "0"
    if not given.isdigit():
        raise UsageError(f"Expected NODE_RANK to be a number from 0, got {given!r}.")
    return int(given)


def require_shared(settings: dict[str, Any], shared: Shared, device: str | None = None) -> None:
    """UsageError where so many devices are not here or can't share the batches of these settings equally."""
    training, devices = settings["training"], shared.devices
    lengths = [training["segment_s"], *(seconds for _, seconds in training["curriculum"] or ())]
    sizes = [max(1, round(training["batch_size"] * lengths[0] / seconds)) for seconds in lengths]
    odd = next((size for size in sizes if size % max(1, shared.ranks)), 0)
    here = torch.cuda.device_count() if devices > 1 and pick_device(device) == "cuda" else max(1, devices)
    meant = os.environ.get("MASTER_ADDR") and os.environ.get("MASTER_PORT", "").isdigit()
    wrong = {
        f"Expected num_nodes of 1 or more, got {shared.num_nodes}.": shared.num_nodes < 1,
        f"{shared.num_nodes} nodes were asked for; set {MEANT}, below {shared.num_nodes}: see docs/cluster.md.": (
            shared.num_nodes > 1 and not (meant and node_rank() < shared.num_nodes)
        ),
        f"Expected a strategy of {', '.join(STRATEGIES)}, got {shared.strategy!r}.": shared.strategy not in STRATEGIES,
        f"{devices} devices were asked for, but torch finds {here} here; give 1 to {here}.": not 1 <= devices <= here,
        f"{settings['experiment']} has batches of {odd} clips, which {shared.ranks} devices can't share equally.": odd,
        # Lightning starts no processes from a notebook
        "A notebook trains on one device; for more, run `!python -m sepkit train … --devices` in a cell.": (
            shared.ranks > 1 and hasattr(sys, "ps1")
        ),
    }
    for sentence in (sentence for sentence, so in wrong.items() if so):
        raise UsageError(sentence)


def lend_to(job: Any, num_nodes: int) -> None:
    """On node 0: tells the others of its next training; the first call waits until all have come."""
    store = _store(num_nodes)
    store.set(f"job {store.add('jobs', 1)}", pickle.dumps(job))


def trained_by_node_0(run: Run, device: str, shared: Shared) -> Run:
    """On another node: takes part in all trainings of node 0, then gives `run`; SepkitError where it is not finished."""
    _serve(device, shared)
    if not run.finished:
        raise SepkitError(f"{run.name} {run.standing}: node 0 says why.")
    return run


@cache  # further runs of the same call were trained meanwhile
def _serve(device: str, shared: Shared) -> None:
    from torch.distributed import DistNetworkError, DistStoreError

    from sepkit.training.fit import take_part

    store, number = _store(shared.num_nodes), 1
    while True:
        try:
            store.wait([f"job {number}"], timedelta(minutes=1))
            job = pickle.loads(store.get(f"job {number}"))
        except DistStoreError:  # nothing to do yet
            continue
        except DistNetworkError as error:
            raise SepkitError("Node 0 ended before its work was done; start the same command again on all.") from error
        if job is None:
            store.add("left", 1)
            return
        run, config, cache, checkpoint = job
        take_part(run, config, cache, checkpoint, device, shared)
        number += 1


@cache
def _store(num_nodes: int) -> Any:
    from torch.distributed import DistError, TCPStore

    host, port, first = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]) + 1, node_rank() == 0
    try:
        store = TCPStore(host, port, num_nodes, first, COMING)
    except DistError as error:
        raise SepkitError(
            f"Node {node_rank()} has not met all {num_nodes} nodes at {host}:{port} in {COMING}; start the same command on each, with {MEANT}."
        ) from error
    if first:
        atexit.register(_end, store, num_nodes)
    return store


def _end(store: Any, num_nodes: int) -> None:
    """Lets the others end, before the store goes."""
    with suppress(RuntimeError):
        lend_to(None, num_nodes)
        until = time.monotonic() + 10
        while store.add("left", 0) < num_nodes - 1 and time.monotonic() < until:
            time.sleep(0.1)
