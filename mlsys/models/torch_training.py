"""Training of layers by PyTorch: epochs within a time, of which the best by rows beside is taken.

Several workers may train in step (`mlsys.models.torch_workers`). A checkpoint holds the values, the state of the
optimiser and of the generator, and the best epoch so far: a fit that goes on from one takes the same steps.
"""

from __future__ import annotations

import contextlib
import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from pydantic import Field

from mlsys.models.boosting import PROGRESS_ROUNDS
from mlsys.models.deadline import Deadline
from mlsys.models.interface import Checkpoint, Checkpoints, Device, FamilyParams, Progress
from mlsys.models.model_files import arrays_of_bytes, arrays_to_bytes
from mlsys.models.torch_workers import Workers

FEWEST_EPOCHS = 8
"""Epochs that a network is trained for on fewer rows where there is no time for them."""

PROBE_STEPS, SPARE = 10, 1.2
"""Steps that only say what a step takes, and time of an epoch beside its steps."""

SCALE_RATE, BIAS_RATE = 6.0, 0.1
"""Learning rates of the scales and the biases, as multiples of that of the weights (RealMLP-TD-S)."""

BETAS = (0.9, 0.95)
"""Memory of Adam for gradients and their squares (RealMLP-TD-S)."""

Rows = tuple[np.ndarray, np.ndarray]
"""Features in float32 and targets: numbers, or positions of classes."""


class TrainingParams(FamilyParams):
    """Parameters of the layers and of their training."""

    epochs: int = Field(256, ge=1, description="passes over the rows in which the learning rate rises and falls")
    last_epoch: int | None = Field(None, ge=1, description="pass after which it ends all the same; null for the last")
    learning_rate: float | None = Field(None, gt=0, description="0.04 for classes and 0.07 for numbers if null")
    width: int = Field(256, ge=1, le=4_096, description="units of each layer")
    layers: int = Field(3, ge=1, le=16)
    batch_rows: int = Field(256, ge=1)
    label_smoothing: float = Field(0.0, ge=0, lt=1, description="0.1 where the accuracy counts and no probability does")

    @property
    def num_epochs(self) -> int:
        """Epochs that a fit takes."""
        return min(self.epochs, self.last_epoch or self.epochs)


@dataclass(frozen=True)
class Trained:
    """A trained network in float64: weights (inputs, outputs) and biases a layer, and the epoch that they are of."""

    weights: list[np.ndarray]
    biases: list[np.ndarray]
    epoch: int
    cut: Mapping[str, int] = field(default_factory=dict)


def rate(part: float) -> float:
    """Compute coslog4: the learning rate after a part of all steps, as a fraction of the largest.

    >>> [round(rate(part), 3) for part in (0.0, 1 / 15, 3 / 15, 7 / 15, 1.0)]
    [0.0, 0.0, 0.0, 0.0, 0.0]
    """
    return 0.5 * (1 - math.cos(2 * math.pi * math.log2(1 + 15 * part)))


def activation(z: np.ndarray, *, is_classification: bool) -> np.ndarray:
    """Compute SELU for classes and Mish for numbers, of float64, by the exponential function alone."""
    grown = np.exp(np.minimum(z, 30.0))
    if is_classification:
        return np.asarray(np.where(z > 0, SELU[0] * z, SELU[0] * SELU[1] * (grown - 1)))
    twice = grown * (grown + 2)
    return np.asarray(z * (twice / (twice + 2)))


SELU = (1.0507009873554805, 1.6732632423543772)
"""Scale and slope of SELU (Klambauer et al., section 3)."""


def affordable(
    num_rows: int, width: int, classes: int, params: TrainingParams, deadline: Deadline, device: Device = "cpu"
) -> dict[str, int]:
    """Epochs, and rows where they are few, that a clock has time for; empty where it has time for all."""
    if not deadline.is_set:
        return {}
    step_s = deadline.seconds_of(lambda: _probe(width, classes, params, device)) / PROBE_STEPS
    return epochs_in_time(num_rows, step_s * -(-num_rows // params.batch_rows), params, deadline)


class Paced(Protocol):
    """Parameters of a fit by epochs of batches."""

    @property
    def epochs(self) -> int:
        """Epochs in which the learning rate rises and falls."""

    @property
    def num_epochs(self) -> int:
        """Epochs that a fit takes."""

    @property
    def batch_rows(self) -> int:
        """Rows of a step."""


def epochs_in_time(num_rows: int, epoch_s: float, params: Paced, deadline: Deadline) -> dict[str, int]:
    """Epochs, and rows where they are few, that there is time for where the steps of one take so many seconds."""
    epochs = deadline.left / (SPARE * epoch_s)
    if epochs >= params.num_epochs:
        return {}
    if epochs >= FEWEST_EPOCHS:
        return {"epochs": int(epochs)}
    rows = min(num_rows, max(params.batch_rows, int(num_rows * epochs / FEWEST_EPOCHS)))
    return {"epochs": min(FEWEST_EPOCHS, params.epochs), "rows": rows}


def train_network(
    rows: Rows,
    held: Rows | None,
    params: TrainingParams,
    classes: int,
    *,
    seed: int,
    progress: Progress | None,
    deadline: Deadline,
    checkpoints: Checkpoints | None = None,
    device: Device = "cpu",
) -> Trained:
    """Train until the last epoch or the deadline; the epoch with the least loss on the `held` rows is taken.

    Rows and `held` rows are those of this worker, all of them where it is alone; among others there is no deadline.
    """
    import torch

    with _single_thread():
        net = _Net(rows[0].shape[1], classes, params, seed, device)
        X, y = net.tensors(rows)
        first, num_rows = net.workers.rows_before(len(X))
        beside = None if held is None else net.tensors(held)
        last, best, is_late = params.num_epochs, _Best(net), False
        epoch = best.resume(checkpoints)
        while epoch < last and not is_late:
            order = torch.randperm(num_rows, generator=net.generator).to(device)
            net.train(X, y, order, epoch / params.epochs, first)
            epoch += 1
            best.note(epoch, net.loss_of(*beside) if beside else None)
            if progress and epoch % PROGRESS_ROUNDS == 0:
                progress(epoch)
            if checkpoints and (epoch == last or epoch % checkpoints.every == 0):
                checkpoints.save(best.checkpoint(epoch))
            is_late = deadline.is_over and epoch < last
    return Trained(*best.layers, best.epoch, {"last_epoch": epoch} if is_late else {})


@contextlib.contextmanager
def _single_thread() -> Iterator[None]:
    """Train in one thread: batches are so small that more of them gain little, and lose much on a busy machine."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _probe(width: int, classes: int, params: TrainingParams, device: Device) -> None:
    """Take some steps on noise."""
    import torch

    with _single_thread():
        net = _Net(width, classes, params, 0, device)
        count = PROBE_STEPS * params.batch_rows
        X = torch.randn(count, width, generator=net.generator).to(device)
        y = torch.zeros(count, dtype=torch.long) if classes else torch.randn(count, 1, generator=net.generator)
        net.train(X, y.to(device), torch.arange(count).to(device), 0.1)


class _Best:
    """The layers of the best epoch of a network so far, and what brings both back from a checkpoint."""

    def __init__(self, net: _Net) -> None:
        self.net = net
        self.layers, self.epoch, self.least = net.copied(), 0, math.inf

    def note(self, epoch: int, loss: float | None) -> None:
        """Note the loss of an epoch; without rows beside the latest is the best."""
        if loss is None or loss < self.least or self.epoch == 0:
            self.layers, self.epoch, self.least = self.net.copied(), epoch, math.inf if loss is None else loss

    def checkpoint(self, epoch: int) -> Checkpoint:
        names = ("best-weight", "best-bias")
        best = {
            f"{name}-{n}": array for name, own in zip(names, self.layers, strict=True) for n, array in enumerate(own)
        }
        stopping = {"best_epoch": self.epoch, "least": self.least}
        return Checkpoint(epoch, arrays_to_bytes({**self.net.state(), **best}), stopping)

    def resume(self, checkpoints: Checkpoints | None) -> int:
        """Go on from the latest checkpoint; the epochs that are done."""
        latest = checkpoints.latest if checkpoints else None
        if latest is None:
            return 0
        arrays, numbers = arrays_of_bytes(latest.model), range(len(self.net.weights))
        self.net.resume(arrays)
        weights, biases = ([arrays[f"best-{name}-{n}"] for n in numbers] for name in ("weight", "bias"))
        self.layers, self.epoch, self.least = (weights, biases), latest.stopping["best_epoch"], latest.stopping["least"]
        return latest.rounds


class _Net:
    """Layers in the neural tangent parametrisation, and the optimiser of their parameters."""

    def __init__(self, width: int, classes: int, params: TrainingParams, seed: int, device: Device = "cpu") -> None:
        import torch

        self.torch, self.params, self.classes, self.device = torch, params, classes, device
        self.generator = torch.Generator().manual_seed(seed)
        sizes = [width, *[params.width] * params.layers, classes or 1]
        self.scale = torch.ones(width).to(device)
        pairs = list(itertools.pairwise(sizes))
        self.weights = [torch.randn(*pair, generator=self.generator).to(device) for pair in pairs]
        self.biases = [torch.randn(size, generator=self.generator).to(device) for size in sizes[1:]]
        self.weights[-1].zero_()
        self.biases[-1].zero_()
        self.rate = params.learning_rate or (0.04 if classes else 0.07)
        groups = (([self.scale], SCALE_RATE), (self.weights, 1.0), (self.biases, BIAS_RATE))
        self.workers = Workers()
        self.parameters = [self.scale, *self.weights, *self.biases]
        for each in self.parameters:
            each.requires_grad_(requires_grad=True)
        self.optimiser = torch.optim.Adam([{"params": own, "factor": factor} for own, factor in groups], betas=BETAS)

    def tensors(self, rows: Rows) -> tuple[Any, Any]:
        X = self.torch.from_numpy(np.ascontiguousarray(rows[0], np.float32))
        kind = np.int64 if self.classes else np.float32
        y = self.torch.from_numpy(rows[1].astype(kind).reshape(-1, *([] if self.classes else [1])))
        return X.to(self.device), y.to(self.device)

    def outputs(self, X: Any) -> Any:
        """The scores of rows, (rows, outputs)."""
        functional = self.torch.nn.functional
        X = X * self.scale
        for number, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            X = X @ weight / math.sqrt(weight.shape[0]) + bias
            if number < len(self.weights) - 1:
                X = functional.selu(X) if self.classes else functional.mish(X)
        return X

    def loss(self, X: Any, y: Any, smoothing: float = 0.0) -> Any:
        functional = self.torch.nn.functional
        if self.classes:
            return functional.cross_entropy(self.outputs(X), y, label_smoothing=smoothing)
        return functional.mse_loss(self.outputs(X), y)

    def train(self, X: Any, y: Any, order: Any, begin: float, first: int = 0) -> None:
        """Take the steps of an epoch, which begins after such a part of all epochs.

        `order` are the positions of the rows of all workers, of which this one's begin at `first`. A step has the rate
        of its middle: at the begin of the first one the rate is 0.
        """
        batches = self.torch.split(order, self.params.batch_rows)
        for number, batch in enumerate(batches):
            fraction = rate(begin + (number + 0.5) / len(batches) / self.params.epochs)
            for group in self.optimiser.param_groups:
                group["lr"] = self.rate * group["factor"] * fraction
            self.optimiser.zero_grad(set_to_none=True)
            own = batch[(batch >= first) & (batch < first + len(X))] - first
            if len(own):
                loss = self.loss(X[own], y[own], self.params.label_smoothing)
                (loss * (len(own) / len(batch))).backward()
            self.workers.sum_gradients(self.parameters)
            self.optimiser.step()

    def loss_of(self, X: Any, y: Any) -> float | None:
        """The loss of the rows beside of all workers, without smoothing; None where there is no row."""
        with self.torch.no_grad():
            pairs = zip(X.split(8_192), y.split(8_192), strict=True)
            own = sum(float(self.loss(*part)) * len(part[0]) for part in pairs if len(part[0]))
        total, num_rows = self.workers.totals(own, len(X)).tolist()
        if not num_rows:
            return None
        return total / num_rows if math.isfinite(total) else math.inf

    def state(self) -> dict[str, np.ndarray]:
        """All that the next steps depend on: values, the optimiser's memory of each, and the generator."""
        arrays = {"generator": self.generator.get_state().numpy()}
        for number, parameter in enumerate(self.parameters):
            arrays[f"value-{number}"] = parameter.detach().cpu().numpy()
            for name, memory in self.optimiser.state[parameter].items():
                arrays[f"{name}-{number}"] = memory.cpu().numpy()
        return arrays

    def resume(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Go on from where the network that gave the `arrays` was."""
        tensors = {name: self.torch.from_numpy(array.copy()) for name, array in arrays.items()}
        self.generator.set_state(tensors["generator"])
        for number, parameter in enumerate(self.parameters):
            memories = {name: tensors[f"{name}-{number}"].to(parameter.device) for name in ("exp_avg", "exp_avg_sq")}
            self.optimiser.state[parameter] = {"step": tensors[f"step-{number}"], **memories}
            with self.torch.no_grad():
                parameter.copy_(tensors[f"value-{number}"])

    def copied(self) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Weights as products take them, with their factors and scales, and biases."""
        weights = [each.detach().double().cpu().numpy() / math.sqrt(each.shape[0]) for each in self.weights]
        weights[0] = weights[0] * self.scale.detach().double().cpu().numpy()[:, None]
        return weights, [each.detach().double().cpu().numpy().copy() for each in self.biases]
