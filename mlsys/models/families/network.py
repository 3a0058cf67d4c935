"""A neural network for tables: three wide layers, trained by PyTorch in float32, predicted by us, exactly.

The recipe is that of RealMLP-TD-S, tuned over many tables: features centred at their median, scaled by their quartiles
and clipped smoothly; a scale a feature that is learned; layers in the neural tangent parametrisation; Adam with
coslog4, a learning rate that rises and falls four times, each time longer; for numbers a standardised target and
predictions that never leave the range of the training rows. The epoch with the least loss on the validation rows is
taken; without any the last one.

Rows may be spread over workers of Ray Train, which take each step together (`mlsys.models.torch_workers`): quartiles,
the scale of the target, batches and the loss of the validation rows are those of all rows.

Prediction needs no PyTorch, and gives a row the same bits in any batch (`mlsys.models.exact_layers`).

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
from mlsys.models.exact_layers import ROOM, LayerFacts, rounded
from mlsys.models.interface import Checkpoints, Device, DistributedFamily, Domain, Integer, Progress, Uniform
from mlsys.models.matrix import Matrix, check_width, drawn, joined
from mlsys.models.model_files import (
    arrays_of_bytes,
    arrays_to_bytes,
    damaged,
    read_arrays,
    read_facts,
    write_arrays,
    write_facts,
)
from mlsys.models.network_inputs import (
    BLOCK_ROWS,
    CLIP,
    TargetFacts,
    centre_and_scale,
    present_classes,
    scaled,
    scaled_rows,
)
from mlsys.models.torch_training import Trained, TrainingParams, activation, affordable, train_network
from mlsys.models.torch_workers import Workers
from mlsys.schema import Task

COMPARED_EPOCHS = 64
"""Epochs of a network that is only compared with other families."""

_HEAD = b"mlsys network "
"""First bytes of a model that a worker hands over; facts as JSON follow on the line, then the arrays."""


class NetworkParams(TrainingParams):
    """Parameters of the network."""

    rows: int = Field(200_000, ge=10, description="rows that a task or worker fits on at most; of more, a sample")


class NetworkFacts(TargetFacts):
    """Facts beside the arrays: the target, the epoch that was taken, and the layers."""

    epoch: int
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


class NetworkFamily(DistributedFamily[NetworkParams, Network]):
    """Multi-layer perceptrons for tables, trained by one task or by workers of Ray Train in step."""

    name = "network"
    encoding = "dense"
    complexity = 12
    """After all single models: nobody reads its weights."""
    params = NetworkParams
    is_searched_by_default = False
    libraries = ("torch",)
    trainer = "ray.train.torch:TorchTrainer"
    workers_on_gpus = False
    """They sum gradients between CPUs, in the order of the workers."""

    def __init__(self, device: Device = "cpu") -> None:
        self.device = device

    def lacks_cuda(self, task: Task | None = None, *, is_monotone: bool = False) -> str | None:
        import torch

        return None if torch.version.cuda else "this build of PyTorch has no CUDA"

    def on(self, device: Device) -> NetworkFamily:
        return NetworkFamily(device)

    def space(self, task: Task) -> dict[str, Domain]:
        """Search the learning rate and the width; the epoch is left to the validation rows."""
        return {"learning_rate": Uniform(0.01, 0.2, log=True), "width": Integer(64, 512, log=True)}

    def portfolio(self, task: Task, num_rows: int) -> list[dict[str, Any]]:
        """The defaults: they are those of many tables."""
        return [{}]

    def fit_blocks(
        self,
        blocks: Sequence[Matrix],
        validation: Matrix | None,
        task: Task,
        params: NetworkParams,
        *,
        seed: int,
        threads: int,
        progress: Progress | None = None,
        seconds: float | None = None,
        checkpoints: Checkpoints | None = None,
    ) -> Network:
        """Train a network; the same seed, rows and workers give the same one, whatever `threads`: it takes one."""
        deadline, workers, train = Deadline(seconds, "torch"), Workers(), joined(blocks)
        # 1. The rows that there is time for, and what the rows of all workers say of features and target.
        present = present_classes(train, workers) if task.is_classification else ()
        most = min(train.num_rows, params.rows)
        cut = affordable(most, train.num_features, len(present), params, deadline, self.device)
        params = params.model_copy(update=cut)
        train = train.take(drawn(np.random.default_rng(seed + workers.rank), train.num_rows, params.rows))
        centre, scale = centre_and_scale(train.X, workers)
        target = TargetFacts.of(workers.gathered(train.y), len(task.classes), present)
        if len(present) == 1:
            return Network(_facts(target, 1, ()), centre, scale, (), ())
        # 2. The training, and its weights as whole numbers.
        rows = scaled_rows(train.X, centre, scale), target.forward(train.y)
        held = None if validation is None else target.known(validation)
        stopping = None if held is None else (scaled_rows(held.X, centre, scale), target.forward(held.y))
        how: dict[str, Any] = {"seed": seed, "progress": progress, "deadline": deadline, "checkpoints": checkpoints}
        how["device"] = self.device
        trained = train_network(rows, stopping, params, len(present), **how)
        first = scaled(train.X[:BLOCK_ROWS], centre, scale)
        facts, weights = _whole(trained, first, workers, is_classification=task.is_classification)
        biases = tuple(trained.biases)
        return Network(_facts(target, trained.epoch, facts), centre, scale, weights, biases, {**cut, **trained.cut})

    def to_bytes(self, model: Network) -> bytes:
        """Give the model as a line of facts and its arrays."""
        return _HEAD + model.facts.model_dump_json().encode() + b"\n" + arrays_to_bytes(_arrays(model))

    def from_bytes(self, data: bytes) -> Network:
        """Read what `to_bytes` gave; a `ValueError` for other bytes."""
        first, _, arrays = data.partition(b"\n")
        if not first.startswith(_HEAD):
            raise ValueError("no network of mlsys")
        return _network(NetworkFacts.model_validate_json(first.removeprefix(_HEAD)), arrays_of_bytes(arrays))

    def predict(self, model: Network, X: np.ndarray) -> np.ndarray:
        """Predict values, or probabilities by softmax."""
        check_width(X, model.centre.size, self.name)
        starts = range(0, max(1, X.shape[0]), BLOCK_ROWS)
        scores = np.concatenate([_scores(model, X[start : start + BLOCK_ROWS]) for start in starts])
        return model.facts.backward(scores)

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
        write_arrays(folder / "network.npz", _arrays(model))

    def load(self, folder: Path) -> Network:
        """Read ``network.json`` and ``network.npz``, whose arrays have to fit each other."""
        facts, file = read_facts(folder / "network.json", NetworkFacts), folder / "network.npz"
        kinds = {"centre": ("<f8", 1), "scale": ("<f8", 1)}
        for number in range(len(facts.layers)):
            kinds |= {f"weight-{number}": ("<i4", 2), f"bias-{number}": ("<f8", 1)}
        try:
            return _network(facts, read_arrays(file, kinds))
        except ValueError as error:
            raise damaged(file, str(error), "layers that fit each other") from None


FAMILY = NetworkFamily()


def _arrays(model: Network) -> dict[str, np.ndarray]:
    """The arrays of a model by their names."""
    arrays = {"centre": model.centre, "scale": model.scale}
    for number, pair in enumerate(zip(model.weights, model.biases, strict=True)):
        arrays |= dict(zip((f"weight-{number}", f"bias-{number}"), pair, strict=True))
    return arrays


def _network(facts: NetworkFacts, arrays: Mapping[str, np.ndarray]) -> Network:
    """The model of its arrays; a `ValueError` where they do not fit each other."""
    numbers = range(len(facts.layers))
    weights, biases = (tuple(arrays[f"{name}-{number}"] for number in numbers) for name in ("weight", "bias"))
    widths = [arrays["centre"].size, *(bias.size for bias in biases)]
    shapes = [weight.shape for weight in weights]
    if arrays["scale"].size != widths[0] or shapes != list(itertools.pairwise(widths)):
        raise ValueError(f"{shapes} for layers of {widths} units")
    return Network(facts, arrays["centre"], arrays["scale"], weights, biases)


def _facts(target: TargetFacts, epoch: int, layers: tuple[LayerFacts, ...]) -> NetworkFacts:
    return NetworkFacts(**target.model_dump(), epoch=epoch, layers=layers)


def _whole(
    trained: Trained, X: np.ndarray, workers: Workers, *, is_classification: bool
) -> tuple[tuple[LayerFacts, ...], tuple[np.ndarray, ...]]:
    """Round the weights to whole numbers, and find steps for the inputs of each layer; training rows fill an eighth."""
    facts, weights = [], []
    for number, (weight, bias) in enumerate(zip(trained.weights, trained.biases, strict=True)):
        largest = CLIP if number == 0 else ROOM * workers.largest(float(np.abs(X).max(initial=1e-3)))
        facts_of_layer, whole = rounded(weight, largest)
        facts.append(facts_of_layer)
        weights.append(whole)
        X = activation(X @ weight + bias, is_classification=is_classification)
    return tuple(facts), tuple(weights)


def _scores(model: Network, X: np.ndarray) -> np.ndarray:
    """Compute the outputs of the last layer, (rows, outputs); zeros where there is none."""
    x = np.ascontiguousarray(scaled(X, model.centre, model.scale))
    for number, (facts, weight, bias) in enumerate(zip(model.facts.layers, model.factors, model.biases, strict=True)):
        x = facts.sums(facts.whole(x), weight, bias)
        if number < len(model.weights) - 1:
            x = activation(x, is_classification=model.facts.classes > 0)
    return x if model.facts.layers else np.zeros((X.shape[0], 1))
