"""Several processes that train one model: who is who, and what they agree on.

Launched by `torchrun`, each process holds a replica and its share of every step. What one process does for
all (checkpoints, the model folder, the log, what a person sees) asks `World.main`.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from twil.core.errors import ConfigError, TwilError

_PATIENCE = timedelta(minutes=30)  # for the slowest process, which may be writing a checkpoint


@dataclass(frozen=True)
class World:
    """The processes of a run.

    Attributes:
        rank: The number of this one, from 0.
        size: How many there are.
        local_rank: The number of this one on its machine, which is that of its CUDA device.
        control: The group in which numbers of the host are exchanged, without waiting for a device.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    control: Any = None

    @property
    def main(self) -> bool:
        """Whether this process writes and speaks for all."""
        return self.rank == 0

    def total(self, values: Sequence[float]) -> list[float]:
        """Add up numbers of the host over all processes, in float64."""
        if self.size == 1:
            return list(values)
        tensor = torch.tensor(values, dtype=torch.float64)
        dist.all_reduce(tensor, group=self.control)
        added: list[float] = tensor.tolist()
        return added

    def merge(self, array: NDArray[Any]) -> NDArray[Any]:
        """Put together an array of the host of which each process has a part, and zeros elsewhere."""
        if self.size > 1:
            dist.all_reduce(torch.from_numpy(array), group=self.control)
        return array

    def reduce(self, tensor: Tensor) -> Tensor:
        """Add up a tensor over all processes, in place."""
        if self.size > 1:
            dist.all_reduce(tensor)
        return tensor

    def share(self, tensors: Iterable[Tensor]) -> None:
        """Give every process the tensors of the main one, in place."""
        if self.size > 1:
            for tensor in tensors:
                dist.broadcast(tensor, 0)

    def agrees(self, value: int) -> bool:
        """Tell whether every process has the same number, below 2²⁶."""
        added, squared = self.total([value, value**2])
        return added**2 == self.size * squared

    def wait(self) -> None:
        """Wait until every process is here."""
        if self.size > 1:
            dist.barrier(group=self.control)

    @contextmanager
    def reserve(self, place: AbstractContextManager[object]) -> Iterator[None]:
        """Have the main process hold the place of the output for all; where it cannot, no process goes on.

        Args:
            place: What the main process enters.

        Raises:
            TwilError: It cannot.
            OSError: The system keeps the main process from finding out.
        """
        refused: TwilError | OSError | None = None
        with ExitStack() as stack:
            if self.main:
                try:
                    stack.enter_context(place)
                except (TwilError, OSError) as error:
                    refused = error
            if any(self.total([refused is not None])):
                raise refused or TwilError("the first of the processes cannot begin, and says why")
            yield

    def replicate(self, network: nn.Module) -> nn.Module:
        """Wrap a network so that its gradients become the mean over all processes."""
        if self.size == 1:
            return network
        device = next(network.parameters()).device
        devices = [device.index] if device.type == "cuda" else None
        # Views save one copy of all gradients. Where parameters may be unused, torch keeps the buckets that
        # it began with. Otherwise it makes others after the first step, and a step just after a resume would
        # add up in another order than it does in a run that was never stopped.
        return DistributedDataParallel(
            network, device_ids=devices, gradient_as_bucket_view=True, find_unused_parameters=True
        )

    def hold(self, network: nn.Module, *, until_last: bool) -> AbstractContextManager[Any]:
        """Keep gradients to this process while a step is accumulated; the last backward shares them."""
        if isinstance(network, DistributedDataParallel) and not until_last:
            return network.no_sync()
        return nullcontext()


def check_alone(work: str) -> None:
    """Refuse processes that `torchrun` has started for work that they do not share.

    Args:
        work: What it is, beginning a sentence.

    Raises:
        ConfigError: There are several of them.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ConfigError(f"{work} cannot be shared by the processes of torchrun: start it without")


@contextmanager
def join_world(device: str) -> Iterator[World]:
    """Join the processes that `torchrun` has started; a process that was started alone is alone.

    Args:
        device: ``cpu`` or ``cuda``: the kind of device that is trained on.

    Raises:
        ConfigError: There are more processes than CUDA devices on this machine.
    """
    if "RANK" not in os.environ or int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield World()
        return
    local_rank = int(os.environ.get("LOCAL_RANK", "0"))
    if device == "cuda":
        if local_rank >= (devices := torch.cuda.device_count()):
            raise ConfigError(
                f"process {local_rank + 1} of this machine has no CUDA device of its own: give torchrun "
                f"--nproc-per-node {devices}, or twil --device cpu"
            )
        torch.cuda.set_device(local_rank)
    dist.init_process_group("nccl" if device == "cuda" else "gloo", timeout=_PATIENCE)
    try:
        control = dist.new_group(backend="gloo", timeout=_PATIENCE)
        yield World(dist.get_rank(), dist.get_world_size(), local_rank, control)
    finally:
        dist.destroy_process_group()
