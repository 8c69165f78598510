"""Group: the processes that train one network together, each on its own batches."""

import os
from dataclasses import dataclass
from datetime import timedelta
from typing import Self

import torch
from torch import Tensor, distributed, nn

_PATIENCE = timedelta(hours=2)  # the others wait while the first makes its heads for validation


def processes(backend: str | None) -> int:
    """How many will train together, before they have joined."""
    return 1 if backend is None else int(os.environ["WORLD_SIZE"])


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """This process among all; one process alone when nothing else is said."""

    rank: int = 0
    size: int = 1

    @classmethod
    def join(cls, backend: str | None) -> Self:
        """The group that torchrun started, or this process alone for no backend."""
        if backend is None:
            return cls()
        if backend == "nccl":
            torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        distributed.init_process_group(backend, timeout=_PATIENCE)
        return cls(rank=distributed.get_rank(), size=distributed.get_world_size())

    def leave(self) -> None:
        """The other processes may end."""
        if distributed.is_initialized():
            distributed.destroy_process_group()

    def average_gradients(self, network: nn.Module) -> None:
        """Every process gets the mean over all, so that equal weights stay equal."""
        if self.size == 1:
            return
        gradients = [p.grad for p in network.parameters() if p.grad is not None]
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        distributed.all_reduce(flat)
        parts = torch.split(flat / self.size, [gradient.numel() for gradient in gradients])
        for gradient, part in zip(gradients, parts, strict=True):
            gradient.copy_(part.view_as(gradient))

    def average(self, here: Tensor) -> None:
        """Every process gets the mean over all of a tensor on the CPU, in place."""
        if self.size > 1:
            device = "cuda" if distributed.get_backend() == "nccl" else "cpu"
            total = here.to(device)
            distributed.all_reduce(total)
            here.copy_(total / self.size)

    def any(self, here: bool, device: str) -> bool:
        """Whether it holds in any process; the same answer in all."""
        if self.size == 1:
            return here
        flag = torch.tensor(float(here), device=device)
        distributed.all_reduce(flag, distributed.ReduceOp.MAX)
        return bool(flag)
