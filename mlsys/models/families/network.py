"""A neural network for tables: three wide layers, trained by PyTorch in float32, predicted by us, exactly.

The recipe is that of RealMLP-TD-S, tuned over many tables: features centred at their median, scaled by their quartiles
and clipped smoothly; a scale a feature that is learned; layers in the neural tangent parametrisation; Adam with
coslog4, a learning rate that rises and falls four times, each time longer; for numbers a standardised target and
predictions that never leave the range of the training rows. The epoch with the least loss on the validation rows is
taken; without any the last one.

Prediction needs no PyTorch, and gives a row the same bits in any batch: weights and activations are rounded to whole
numbers so small that their products and sums are exact in float64, whatever the order.

References
----------
Holzmüller, Grinsztajn & Steinwart: Better by Default: Strong Pre-Tuned MLPs and Boosted Trees on Tabular Data,
NeurIPS 2024, arXiv:2407.04491 (RealMLP; coslog4 is its equation of section 3).
Jacot, Gabriel & Hongler: Neural Tangent Kernel, NeurIPS 2018, arXiv:1806.07572 (the parametrisation).
Klambauer et al.: Self-Normalizing Neural Networks, NeurIPS 2017, arXiv:1706.02515 (SELU, for classes).
Misra: Mish, BMVC 2020, arXiv:1908.08681 (for numbers).
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field

from mlsys.models.deadline import Deadline
from mlsys.models.interface import Domain, Family, Integer, Progress, Uniform
from mlsys.models.matrix import LARGEST, Matrix, check_width, drawn, outputs
from mlsys.models.model_files import ModelFacts, damaged, read_arrays, read_facts, write_arrays, write_facts
from mlsys.models.torch_training import Trained, TrainingParams, activation, affordable, train_network
from mlsys.schema import Task

CLIP = 3.0
"""Value that scaled features tend to, however large they are."""

COMPARED_EPOCHS = 64
"""Epochs of a network that is only compared with other families."""

WEIGHT_BITS, EXACT_BITS = 20, 52
"""Bits of a rounded weight, and of a sum of products that float64 holds exactly."""

_ROWS = 8_192
"""Rows that are predicted together: activations of some tens of megabytes."""


class NetworkParams(TrainingParams):
    """Parameters of the network."""

    rows: int = Field(200_000, ge=10, description="rows fitted on at most; of more, a sample")


class LayerFacts(ModelFacts):
    """The arithmetic of a layer: `steps` in 1 of its inputs, the `largest` of them, and the `unit` of its sums."""

    steps: float
    largest: int
    unit: float


class NetworkFacts(ModelFacts):
    """Facts beside the arrays: classes (0 for regression), those in training, epoch, target and layers.

    A number is ``spread · score + mean``, within `low` and `high`; `epoch` is the one that was taken.
    """

    classes: int
    present: tuple[int, ...]
    epoch: int
    mean: float
    spread: float
    low: float
    high: float
    layers: tuple[LayerFacts, ...]


@dataclass(frozen=True)
class Network:
    """Scaled features, and for each layer whole weights (inputs, outputs) and a bias.

    What the time of the fit has `cut` is not stored.
    """

    facts: NetworkFacts
    centre: np.ndarray
    scale: np.ndarray
    weights: tuple[np.ndarray, ...]
    biases: tuple[np.ndarray, ...]
    cut: Mapping[str, int] = field(default_factory=dict, compare=False)

    @cached_property
    def factors(self) -> tuple[np.ndarray, ...]:
        """The weights in float64, as products need them."""
        return tuple(weight.astype(np.float64) for weight in self.weights)


class NetworkFamily(Family[NetworkParams, Network]):
    """Multi-layer perceptrons for tables."""

    name = "network"
    encoding = "dense"
    complexity = 12
    """After all single models: nobody reads its weights."""
    params = NetworkParams
    is_searched_by_default = False
    libraries = ("torch",)

    def space(self, task: Task) -> dict[str, Domain]:
        """Search the learning rate and the width; the epoch is left to the validation rows."""
        return {"learning_rate": Uniform(0.01, 0.2, log=True), "width": Integer(64, 512, log=True)}

    def portfolio(self, task: Task, num_rows: int) -> list[dict[str, Any]]:
        """The defaults: they are those of many tables."""
        return [{}]

    def fit(
        self,
        train: Matrix,
        validation: Matrix | None,
        task: Task,
        params: NetworkParams,
        *,
        seed: int,
        threads: int,
        progress: Progress | None = None,
        seconds: float | None = None,
    ) -> Network:
        """Train a network; the same seed and rows give the same one, whatever `threads`, of which it takes one."""
        deadline = Deadline(seconds, "torch")
        present = tuple(np.unique(train.y.astype(np.int64)).tolist()) if task.is_classification else ()
        most = min(train.num_rows, params.rows)
        cut = affordable(most, train.num_features, len(present), params, deadline)
        params = params.model_copy(update=cut)
        train = train.take(drawn(np.random.default_rng(seed), train.num_rows, params.rows))
        centre, scale = _centre_and_scale(train.X)
        target = _Target.of(train.y, len(task.classes), present)
        if len(present) == 1:
            return Network(target.facts(1, ()), centre, scale, (), ())
        rows = scaled(train.X, centre, scale), target.forward(train.y)
        held = None if validation is None else target.known(validation)
        stopping = None if held is None else (scaled(held.X, centre, scale), target.forward(held.y))
        how: dict[str, Any] = {"seed": seed, "progress": progress, "deadline": deadline}
        trained = train_network(rows, stopping, params, len(present), **how)
        facts, weights = _whole(trained, rows[0], is_classification=task.is_classification)
        biases = tuple(trained.biases)
        return Network(target.facts(trained.epoch, facts), centre, scale, weights, biases, {**cut, **trained.cut})

    def predict(self, model: Network, X: np.ndarray) -> np.ndarray:
        """Predict values, or probabilities by softmax."""
        check_width(X, model.centre.size, self.name)
        starts = range(0, max(1, X.shape[0]), _ROWS)
        scores = np.concatenate([_scores(model, X[start : start + _ROWS]) for start in starts])
        facts = model.facts
        if facts.classes:
            return outputs(scores, facts.present, facts.classes)
        return np.clip(scores[:, 0] * facts.spread + facts.mean, facts.low, facts.high)

    def max_rounds(self, params: NetworkParams) -> int:
        return params.num_epochs

    def rounds(self, model: Network) -> int:
        """The epoch that was taken."""
        return model.facts.epoch

    def of_rounds(self, params: NetworkParams, rounds: int) -> NetworkParams:
        """The parameters of a fit that ends after that epoch, with the learning rates that it had."""
        return params.model_copy(update={"last_epoch": rounds})

    def params_of_refit(self, params: NetworkParams, model: Network, growth: float) -> NetworkParams:
        """Those that end after the epoch that was taken: an epoch of more rows has more steps by itself."""
        return self.of_rounds(params, self.rounds(model))

    def params_for_comparison(self, params: NetworkParams, task: Task, rows: Matrix) -> NetworkParams:
        """A part of the epochs: more of them are better, but by less than families differ."""
        return params.model_copy(update={"epochs": min(params.epochs, COMPARED_EPOCHS)})

    def note_on_cheaper(self, params: NetworkParams, used: Sequence[NetworkParams]) -> str | None:
        epochs = min(each.epochs for each in used)
        return None if epochs == params.epochs else f"network: compared with {epochs} epochs, to limit the cost"

    def cut(self, model: Network) -> dict[str, Any]:
        return dict(model.cut)

    def save(self, model: Network, folder: Path) -> None:
        """Write ``network.json`` and the arrays, ``network.npz``."""
        write_facts(folder / "network.json", model.facts)
        arrays = {"centre": model.centre, "scale": model.scale}
        for number, pair in enumerate(zip(model.weights, model.biases, strict=True)):
            arrays |= dict(zip((f"weight-{number}", f"bias-{number}"), pair, strict=True))
        write_arrays(folder / "network.npz", arrays)

    def load(self, folder: Path) -> Network:
        """Read ``network.json`` and ``network.npz``, whose arrays have to fit each other."""
        facts, file = read_facts(folder / "network.json", NetworkFacts), folder / "network.npz"
        numbers = range(len(facts.layers))
        kinds = {"centre": ("<f8", 1), "scale": ("<f8", 1)}
        for number in numbers:
            kinds |= {f"weight-{number}": ("<i4", 2), f"bias-{number}": ("<f8", 1)}
        arrays = read_arrays(file, kinds)
        weights = tuple(arrays[f"weight-{number}"] for number in numbers)
        biases = tuple(arrays[f"bias-{number}"] for number in numbers)
        widths = [arrays["centre"].size, *(bias.size for bias in biases)]
        shapes = [weight.shape for weight in weights]
        if arrays["scale"].size != widths[0] or shapes != list(itertools.pairwise(widths)):
            raise damaged(file, str(shapes), f"layers of {widths} units")
        return Network(facts, arrays["centre"], arrays["scale"], weights, biases)


FAMILY = NetworkFamily()


@dataclass(frozen=True)
class _Target:
    """The target as it is fitted: positions of the classes that there are, or a standardised number."""

    classes: int
    present: tuple[int, ...]
    mean: float = 0.0
    spread: float = 1.0
    low: float = 0.0
    high: float = 0.0

    @classmethod
    def of(cls, y: np.ndarray, classes: int, present: tuple[int, ...]) -> _Target:
        if classes:
            return cls(classes, present)
        return cls(0, (), float(y.mean()), float(y.std()) or 1.0, float(y.min()), float(y.max()))

    def forward(self, y: np.ndarray) -> np.ndarray:
        if self.classes:
            return np.searchsorted(self.present, y.astype(np.int64))
        return (y - self.mean) / self.spread

    def known(self, rows: Matrix) -> Matrix | None:
        """The rows that say when to stop, without classes that training lacks; None where no row is left."""
        rows = rows.take(np.isin(rows.y, self.present)) if self.classes else rows
        return rows if rows.num_rows else None

    def facts(self, epoch: int, layers: tuple[LayerFacts, ...]) -> NetworkFacts:
        return NetworkFacts(
            classes=self.classes,
            present=self.present,
            epoch=epoch,
            mean=self.mean,
            spread=self.spread,
            low=self.low,
            high=self.high,
            layers=layers,
        )


def _centre_and_scale(X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Find the median of each feature, and 1 over the distance of its quartiles; half its range where that is 0."""
    centre, scale = np.zeros(X.shape[1]), np.zeros(X.shape[1])
    for j in range(X.shape[1]):
        column = X[:, j].astype(np.float64)
        column = column[np.isfinite(column)]
        if column.size:
            lower, centre[j], upper = np.quantile(column, [0.25, 0.5, 0.75])
            spread = upper - lower or (column.max() - column.min()) / 2
            scale[j] = 1 / spread if spread > 0 else 0.0
    return centre, scale


def scaled(X: np.ndarray, centre: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Centre, scale and clip features smoothly, to ±`CLIP`; a missing value stands at the centre.

    >>> scaled(np.array([[1.0, np.nan, np.inf]]), np.zeros(3), np.ones(3)).round(3).tolist()
    [[0.949, 0.0, 3.0]]
    """
    x = (np.clip(X.astype(np.float64), -LARGEST, LARGEST) - centre) * scale
    x = np.where(np.isnan(x), 0.0, x)
    return np.asarray(x / np.sqrt(1 + (x / CLIP) ** 2))


def _whole(
    trained: Trained, X: np.ndarray, *, is_classification: bool
) -> tuple[tuple[LayerFacts, ...], tuple[np.ndarray, ...]]:
    """Round the weights to whole numbers, and find steps for the inputs of each layer; training rows fill an eighth."""
    facts, weights = [], []
    X = X[:_ROWS]
    for number, (weight, bias) in enumerate(zip(trained.weights, trained.biases, strict=True)):
        bits = EXACT_BITS - WEIGHT_BITS - len(weight).bit_length()
        largest = CLIP if number == 0 else 8 * float(np.abs(X).max(initial=1e-3))
        size = float(np.abs(weight).max(initial=0.0)) or 1.0
        steps = 2.0**bits / largest
        facts.append(LayerFacts(steps=steps, largest=2**bits, unit=size / 2**WEIGHT_BITS / steps))
        weights.append(np.rint(weight * (2**WEIGHT_BITS / size)).astype("<i4"))
        X = activation(X @ weight + bias, is_classification=is_classification)
    return tuple(facts), tuple(weights)


def _scores(model: Network, X: np.ndarray) -> np.ndarray:
    """Compute the outputs of the last layer, (rows, outputs); zeros where there is none."""
    x = np.ascontiguousarray(scaled(X, model.centre, model.scale))
    for number, (facts, weight, bias) in enumerate(zip(model.facts.layers, model.factors, model.biases, strict=True)):
        whole = np.clip(np.rint(x * facts.steps), -facts.largest, facts.largest)
        x = (whole @ weight) * facts.unit + bias
        if number < len(model.weights) - 1:
            x = activation(x, is_classification=model.facts.classes > 0)
    return x if model.facts.layers else np.zeros((X.shape[0], 1))
