"""Workers that train a network in step: whose rows a batch has, gradients in a fixed order, and sums over all rows.

Each worker holds a part of the rows and the whole network. Of a batch it takes the rows that are its own; gradients are
gathered, each weighted by its rows, and summed from the first worker to the last, which is the gradient of the whole
batch (synchronous data parallelism: Li et al., PyTorch Distributed, VLDB 2020, doi:10.14778/3415478.3415530). Every
worker sums the same numbers in the same order, so that all hold the same bits after a step, and as many workers give
the same bits again. A fit in one task is that of one worker.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np


class Workers:
    """The workers of this process's group, or this process alone where it is in none.

    Examples
    --------
    >>> alone = Workers()
    >>> alone.rank, alone.count, alone.gathered(np.array([2.0])).tolist(), alone.totals(1.0, 3).tolist()
    (0, 1, [2.0], [1.0, 3.0])
    """

    def __init__(self) -> None:
        import torch.distributed

        self.torch, self.group = torch, torch.distributed
        is_among_others = self.group.is_available() and self.group.is_initialized()
        self.rank = self.group.get_rank() if is_among_others else 0
        self.count = self.group.get_world_size() if is_among_others else 1

    def gathered(self, values: np.ndarray) -> np.ndarray:
        """The values of all workers along the first axis, in the order of the workers."""
        if self.count == 1:
            return values
        own = self.torch.from_numpy(np.ascontiguousarray(values))
        sizes = [int(size) for size in self._parts(self.torch.tensor([len(own)]))]
        padded = own.new_zeros((max(sizes), *own.shape[1:]))
        padded[: len(own)] = own
        parts = self._parts(padded)
        return np.concatenate([part[:size].numpy() for part, size in zip(parts, sizes, strict=True)])

    def totals(self, *values: float) -> np.ndarray:
        """The sum of each value over the workers, from the first worker to the last."""
        rows = self.gathered(np.array([values], np.float64))
        return np.asarray(np.add.accumulate(rows, axis=0)[-1])

    def largest(self, value: float) -> float:
        """The largest of the workers' values."""
        return float(self.gathered(np.array([value])).max())

    def rows_before(self, num_rows: int) -> tuple[int, int]:
        """Rows of the workers before this one, and of all of them."""
        counts = self.gathered(np.array([num_rows], np.int64))
        return int(counts[: self.rank].sum()), int(counts.sum())

    def sum_gradients(self, parameters: Sequence[Any]) -> None:
        """Put the sum of the workers' gradients in the place of each one's own; who had no row adds zeros."""
        if self.count == 1:
            return
        own = [each.new_zeros(each.shape) if each.grad is None else each.grad for each in parameters]
        parts = self._parts(self.torch.cat([gradient.reshape(-1) for gradient in own]).cpu())
        total = parts[0]
        for part in parts[1:]:
            total = total + part
        sums = total.split([each.numel() for each in parameters])
        for parameter, gradient, whole in zip(parameters, own, sums, strict=True):
            parameter.grad = gradient.copy_(whole.view_as(gradient))

    def _parts(self, own: Any) -> list[Any]:
        """The tensors of all workers, which have one shape."""
        parts = [self.torch.empty_like(own) for _ in range(self.count)]
        self.group.all_gather(parts, own)
        return parts
