"""Training of a small residual network for pictures by PyTorch, whose batch statistics end in its weights.

The layers are those of the residual networks for small pictures: a 3 × 3 convolution, then stages of which each halves
the picture and doubles the channels, in blocks of two 3 × 3 convolutions with a way around them; each convolution is
normalised over its batch; at the end the mean over all places. With a block a stage that is ResNet-8 of MLPerf Tiny.
The features of other columns pass a layer of their own and are joined before the last layer.

Steps are those of gradient descent with Nesterov's momentum, whose rate rises for a part of the steps and falls to 0 by
a cosine. The running mean of the weights over some epochs judges and predicts: it is as good in the middle of a cycle
as at its end, so that the epoch with the least loss can be fitted again on more rows. Training pictures are shifted at
random, and mirrored where that is asked for; what comes in from outside is the mean of the training pictures.

References
----------
He, Zhang, Ren & Sun: Deep Residual Learning for Image Recognition, CVPR 2016, arXiv:1512.03385 (section 4.2: the
architecture for 32 × 32 pixels, its shifts of 4 pixels, momentum 0.9; the rule by which weights are drawn is that of
their arXiv:1502.01852).
Banbury et al.: MLPerf Tiny Benchmark, NeurIPS 2021, arXiv:2106.07597 (ResNet-8).
Ioffe & Szegedy: Batch Normalization, ICML 2015, arXiv:1502.03167 (section 3.1: inference by one linear map).
Smith & Topin: Super-Convergence, 2018, arXiv:1708.07120 (one cycle); Loshchilov & Hutter, SGDR, ICLR 2017,
arXiv:1608.03983 (the cosine).
Polyak & Juditsky: Acceleration of Stochastic Approximation by Averaging, SIAM J. Control Optim. 30(4), 1992.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from pydantic import Field

from mlsys.models.deadline import Deadline
from mlsys.models.interface import FamilyParams, Progress

MOMENTUM, WARM_UP = 0.9, 0.2
"""Part of a step that the next one repeats, and part of the steps in which the rate rises."""

STATISTICS_RATE, EPSILON = 0.1, 1e-5
"""Weight of a batch in the running statistics, and what is added to a variance."""

MEAN_EPOCHS = 2.0
"""Epochs over which weights are averaged, roughly: older ones count e times less."""

LARGEST_GRADIENT = 5.0
"""Length to which a longer gradient is cut: the first steps of a number can be wild."""

PROBE_STEPS = 2
"""Steps that only say what a step takes."""

FEWEST_STEPS, FEWEST_ROWS = 20, 16
"""Steps of an epoch at least, where each has so many rows: statistics of fewer pictures are too rough."""

JUDGED_ROWS = 512
"""Pictures that are judged together."""

PROGRESS_EPOCHS = 5
"""Epochs between two reports."""

Pictures = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Pictures (rows, channels, side, side) in float32, features of other columns, and targets."""


class ConvolutionParams(FamilyParams):
    """Parameters of the convolutional network and of its training."""

    epochs: int = Field(40, ge=1, description="passes over the rows in which the learning rate rises and falls")
    last_epoch: int | None = Field(None, ge=1, description="pass after which it ends all the same; null for the last")
    patience: int = Field(15, ge=0, description="passes without gain on validation before it ends; 0 takes all passes")
    learning_rate: float = Field(0.1, gt=0, le=10)
    width: int = Field(16, ge=1, le=512, description="channels of the first layer; each stage has twice as many")
    stages: int = Field(3, ge=1, le=5, description="stages, of which all but the first halve the picture")
    blocks: int = Field(1, ge=1, le=18, description="pairs of layers a stage")
    hidden: int = Field(64, ge=1, le=4_096, description="units for the features of other columns")
    batch_rows: int = Field(64, ge=2, description="rows of a step; fewer where an epoch would have less than 20 steps")
    weight_decay: float = Field(5e-4, ge=0, lt=1)
    shift: float = Field(0.125, ge=0, le=0.5, description="largest shift of a training picture, as a part of its side")
    mirrored: bool = Field(default=False, description="mirror half of the training pictures: for photos, not letters")
    rows: int = Field(100_000, ge=10, description="rows fitted on at most; of more, a sample")

    @property
    def num_epochs(self) -> int:
        """Epochs that a fit takes at most."""
        return min(self.epochs, self.last_epoch or self.epochs)

    def step_rows(self, num_rows: int) -> int:
        """Rows of a step, of so many in all: of few rows it has fewer, down to `FEWEST_ROWS`."""
        return min(self.batch_rows, max(FEWEST_ROWS, num_rows // FEWEST_STEPS))

    def num_steps(self, num_rows: int) -> int:
        """Steps of an epoch.

        >>> [ConvolutionParams().num_steps(rows) for rows in (10, 175, 600, 6_400)]
        [1, 11, 20, 100]
        """
        return max(1, round(num_rows / self.step_rows(num_rows)))


@dataclass(frozen=True)
class Folded:
    """A trained layer in float64, statistics of batches in it: weights (outputs, inputs, height, width), and biases."""

    weight: np.ndarray
    bias: np.ndarray
    stride: int = 1


@dataclass(frozen=True)
class TrainedConvolution:
    """Trained layers and the epoch that they are of.

    Their names: `stem`, ``block-N-0``, ``block-N-1`` and ``block-N-around`` of each block, `hidden` and `last`.
    """

    layers: dict[str, Folded]
    epoch: int
    cut: Mapping[str, int] = field(default_factory=dict)


def rate(part: float) -> float:
    """Compute the learning rate after a part of all steps, as a fraction of the largest.

    >>> [round(rate(part), 3) for part in (0.0, 0.1, 0.2, 0.6, 1.0)]
    [0.0, 0.5, 1.0, 0.5, 0.0]
    """
    if part < WARM_UP:
        return part / WARM_UP
    return 0.5 * (1 + math.cos(math.pi * (part - WARM_UP) / (1 - WARM_UP)))


def train_convolution(
    rows: Pictures,
    held: Pictures | None,
    params: ConvolutionParams,
    classes: int,
    *,
    seed: int,
    threads: int,
    progress: Progress | None,
    deadline: Deadline,
) -> TrainedConvolution:
    """Train until the last epoch, the deadline, or no more gain; the epoch with the least loss on `held` is taken."""
    import torch

    with _threads(threads):
        net = ConvolutionNet(rows[0].shape[1], rows[1].shape[1], classes, params, seed)
        given, beside = net.tensors(rows), None if held is None or not len(held[0]) else net.tensors(held)
        last, best, best_epoch, least, is_late = params.num_epochs, net.folded(), 0, math.inf, False
        epoch = 0
        while epoch < last and not is_late:
            order = torch.randperm(len(rows[0]), generator=net.generator)
            net.train(*given, order, epoch / params.epochs)
            epoch += 1
            with net.averaged():
                loss = -epoch if beside is None else net.loss_of(*beside)
                if loss < least or best_epoch == 0:
                    best, best_epoch, least = net.folded(), epoch, loss
            if progress and epoch % PROGRESS_EPOCHS == 0:
                progress(epoch)
            if 0 < params.patience <= epoch - best_epoch:
                break
            is_late = deadline.is_over and epoch < last
    return TrainedConvolution(best, best_epoch, {"last_epoch": epoch} if is_late else {})


@contextlib.contextmanager
def _threads(threads: int) -> Iterator[None]:
    """Train in so many threads, by algorithms that give the same bits again."""
    import torch

    before, is_strict = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(mode=True)
    try:
        yield
    finally:
        torch.set_num_threads(before)
        torch.use_deterministic_algorithms(mode=is_strict)


def probe(shape: tuple[int, int, int, int], classes: int, params: ConvolutionParams, threads: int) -> None:
    """Take some steps on noise; `shape` are rows of a step, channels, side and features of other columns."""
    import torch

    rows, channels, side, features = shape
    with _threads(threads):
        net, count = ConvolutionNet(channels, features, classes, params, seed=0), PROBE_STEPS * rows
        X, other = torch.randn(count, channels, side, side), torch.randn(count, features)
        y = torch.zeros(count, dtype=torch.long) if classes else torch.zeros(count, 1)
        for batch in torch.arange(count).split(rows):
            net.step(X[batch], other[batch], y[batch], 0.1)
            net.average(1.0)


class _Layer:
    """A convolution without bias, normalised over its batch."""

    def __init__(self, inputs: int, outputs: int, size: int, stride: int, generator: Any) -> None:
        import torch

        self.functional, self.size, self.stride = torch.nn.functional, size, stride
        spread = math.sqrt(2 / (inputs * size * size))
        self.weight = torch.randn(outputs, inputs, size, size, generator=generator) * spread
        self.factor, self.shift = torch.ones(outputs), torch.zeros(outputs)
        self.mean, self.variance = torch.zeros(outputs), torch.ones(outputs)

    def __call__(self, x: Any, *, is_training: bool) -> Any:
        z = self.functional.conv2d(x, self.weight, stride=self.stride, padding=self.size // 2)
        statistics = self.mean, self.variance, self.factor, self.shift
        return self.functional.batch_norm(z, *statistics, is_training, STATISTICS_RATE, EPSILON)

    def folded(self) -> Folded:
        """The convolution that does the same with a bias and without statistics."""
        tensors = (self.weight, self.factor, self.shift, self.mean, self.variance)
        weight, factor, shift, mean, variance = (each.detach().double().cpu().numpy() for each in tensors)
        scale = factor / np.sqrt(variance + EPSILON)
        return Folded(weight * scale[:, None, None, None], shift - mean * scale, self.stride)


class _Dense:
    """A layer of units with biases."""

    def __init__(self, inputs: int, outputs: int, spread: float, generator: Any) -> None:
        import torch

        self.weight = torch.randn(inputs, outputs, generator=generator) * spread
        self.bias = torch.zeros(outputs)

    def __call__(self, x: Any) -> Any:
        return x @ self.weight + self.bias

    def folded(self) -> Folded:
        weight, bias = (each.detach().double().cpu().numpy().copy() for each in (self.weight, self.bias))
        return Folded(weight.T[:, :, None, None], bias)


class ConvolutionNet:
    """The layers, and the optimiser of their parameters."""

    def __init__(self, channels: int, features: int, classes: int, params: ConvolutionParams, seed: int) -> None:
        import torch

        self.torch, self.params, self.classes = torch, params, classes
        self.generator = torch.Generator().manual_seed(seed)
        self.layers = {"stem": _Layer(channels, params.width, 3, 1, self.generator)}
        inputs = params.width
        for number in range(params.stages * params.blocks):
            stage, first = divmod(number, params.blocks)
            outputs, stride = params.width * 2**stage, 2 if stage and not first else 1
            self.layers[f"block-{number}-0"] = _Layer(inputs, outputs, 3, stride, self.generator)
            self.layers[f"block-{number}-1"] = _Layer(outputs, outputs, 3, 1, self.generator)
            if inputs != outputs or stride > 1:
                self.layers[f"block-{number}-around"] = _Layer(inputs, outputs, 1, stride, self.generator)
            inputs = outputs
        self.hidden = _Dense(features, params.hidden, math.sqrt(2 / features), self.generator) if features else None
        joined = inputs + (params.hidden if features else 0)
        self.last = _Dense(joined, classes or 1, 1 / math.sqrt(joined), self.generator)
        dense = [each for each in (self.hidden, self.last) if each is not None]
        decayed = [each.weight for each in self.layers.values()] + [each.weight for each in dense]
        free = [tensor for layer in self.layers.values() for tensor in (layer.factor, layer.shift)]
        free += [each.bias for each in dense]
        self.parameters = [*decayed, *free]
        for each in self.parameters:
            each.requires_grad_(requires_grad=True)
        statistics = [tensor for layer in self.layers.values() for tensor in (layer.mean, layer.variance)]
        self.values = [*self.parameters, *statistics]
        self.means, self.num_steps = [each.detach().clone() for each in self.values], 0
        groups = [{"params": decayed, "weight_decay": params.weight_decay}, {"params": free, "weight_decay": 0.0}]
        self.optimiser = torch.optim.SGD(groups, lr=0.0, momentum=MOMENTUM, nesterov=True)

    def tensors(self, rows: Pictures) -> tuple[Any, Any, Any]:
        kind = np.int64 if self.classes else np.float32
        y = rows[2].astype(kind).reshape(-1, *([] if self.classes else [1]))
        arrays = (*(np.ascontiguousarray(each, np.float32) for each in rows[:2]), y)
        X, other, target = (self.torch.from_numpy(each) for each in arrays)
        return X, other, target

    def outputs(self, X: Any, other: Any, *, is_training: bool) -> Any:
        """The scores of rows, (rows, outputs)."""
        functional = self.torch.nn.functional
        x = functional.relu(self.layers["stem"](X, is_training=is_training))
        for number in range(self.params.stages * self.params.blocks):
            names = [f"block-{number}-{part}" for part in ("0", "1", "around")]
            first, second, around = (self.layers.get(name) for name in names)
            z = functional.relu(first(x, is_training=is_training))  # type: ignore[misc]
            z = second(z, is_training=is_training)  # type: ignore[misc]
            x = functional.relu(z + (x if around is None else around(x, is_training=is_training)))
        joined = x.mean(dim=(2, 3))
        if self.hidden is not None:
            joined = self.torch.cat([joined, functional.relu(self.hidden(other))], dim=1)
        return self.last(joined)

    def loss(self, scores: Any, y: Any) -> Any:
        functional = self.torch.nn.functional
        return functional.cross_entropy(scores, y) if self.classes else functional.mse_loss(scores, y)

    def train(self, X: Any, other: Any, y: Any, order: Any, begin: float) -> None:
        """Take the steps of an epoch, which begins after such a part of all epochs; batches are of about one size."""
        batches = self.torch.tensor_split(order, self.params.num_steps(len(order)))
        for number, batch in enumerate(batches):
            fraction = rate(begin + (number + 0.5) / len(batches) / self.params.epochs)
            self.step(X[batch], other[batch], y[batch], fraction)
            self.num_steps += 1
            self.average(max(1 / (MEAN_EPOCHS * len(batches)), 1 / self.num_steps))  # of the first steps a plain mean

    def step(self, X: Any, other: Any, y: Any, fraction: float) -> None:
        """Take a step with a fraction of the largest rate, on pictures that are changed at random."""
        for group in self.optimiser.param_groups:
            group["lr"] = self.params.learning_rate * fraction
        self.optimiser.zero_grad(set_to_none=True)
        self.loss(self.outputs(self.changed(X), other, is_training=True), y).backward()
        self.torch.nn.utils.clip_grad_norm_(self.parameters, LARGEST_GRADIENT)
        self.optimiser.step()

    def average(self, weight: float) -> None:
        """Move the running means by a part of the way to the values."""
        with self.torch.no_grad():
            for mean, value in zip(self.means, self.values, strict=True):
                mean.lerp_(value, weight)

    @contextlib.contextmanager
    def averaged(self) -> Iterator[None]:
        """Put the running means in the place of the values for a while."""
        with self.torch.no_grad():
            own = [value.clone() for value in self.values]
            for value, mean in zip(self.values, self.means, strict=True):
                value.copy_(mean)
            yield
            for value, former in zip(self.values, own, strict=True):
                value.copy_(former)

    def changed(self, X: Any) -> Any:
        """Shift pictures by up to a part of their side, each by itself, and mirror half of them where that is asked."""
        num_rows, channels, side = X.shape[:3]
        if self.params.mirrored:
            is_mirrored = self.torch.rand(num_rows, generator=self.generator) < 0.5
            X = self.torch.where(is_mirrored[:, None, None, None], X.flip(3), X)
        most = round(self.params.shift * side)
        if most == 0:
            return X
        wide = self.torch.nn.functional.pad(X, (most,) * 4)
        starts = self.torch.randint(0, 2 * most + 1, (2, num_rows), generator=self.generator)
        down, across = (start[:, None] + self.torch.arange(side) for start in starts)
        rows = self.torch.arange(num_rows)[:, None, None, None]
        return wide[rows, self.torch.arange(channels)[:, None, None], down[:, None, :, None], across[:, None, None, :]]

    def loss_of(self, X: Any, other: Any, y: Any) -> float:
        """The mean loss of rows beside."""
        total = 0.0
        with self.torch.no_grad():
            for part in zip(*(each.split(JUDGED_ROWS) for each in (X, other, y)), strict=True):
                total += float(self.loss(self.outputs(*part[:2], is_training=False), part[2])) * len(part[0])
        return total / len(X) if math.isfinite(total) else math.inf

    def folded(self) -> dict[str, Folded]:
        """All layers as they predict."""
        layers = {name: layer.folded() for name, layer in self.layers.items()}
        dense = {"last": self.last} | ({"hidden": self.hidden} if self.hidden is not None else {})
        return layers | {name: layer.folded() for name, layer in dense.items()}
