"""A small convolutional network for pictures: residual, trained by PyTorch in float32, predicted by us, exactly.

What tells pictures apart is mostly the same thing at another place. Layers whose weights are shared by all places know
that from the first row on (LeCun et al., Gradient-Based Learning Applied to Document Recognition, Proc. IEEE 86(11),
1998); features of a picture as a whole have to learn each place anew. The layers and their training are in
`mlsys.models.torch_convolution`. Several pictures a row are channels of one; features of other columns are joined
before the last layer. The epoch with the least loss on the validation rows is taken.

Prediction needs no PyTorch. A convolution is a product of the patches of a picture with weights, of whole numbers whose
sums are exact (`mlsys.models.exact_layers`), so that a row has the same bits in any batch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from mlsys import errors
from mlsys.models.deadline import Deadline
from mlsys.models.exact_layers import ROOM, LayerFacts, rounded
from mlsys.models.interface import Choice, Domain, Family, Integer, Progress, Uniform
from mlsys.models.matrix import Matrix, check_width, drawn, ordered_sum
from mlsys.models.model_files import damaged, read_arrays, read_facts, write_arrays, write_facts
from mlsys.models.network_inputs import TargetFacts, centre_and_scale, present_classes, scaled, scaled_rows
from mlsys.models.torch_convolution import (
    PROBE_STEPS,
    ConvolutionParams,
    Folded,
    Pictures,
    TrainedConvolution,
    probe,
    train_convolution,
)
from mlsys.models.torch_training import epochs_in_time
from mlsys.models.torch_workers import Workers
from mlsys.schema import Task

COMPARED_EPOCHS, COMPARED_STEPS = 12, 500
"""Epochs, and steps where there are fewer, of a network that is only compared with other families."""

BLOCK_ROWS = 8
"""Rows that are predicted together: patches of ten megabytes."""

MEASURED_ROWS, LEVEL_ROWS = 256, 4_096
"""Training rows that say how large the inputs of each layer are, and rows that say how bright pictures are."""

CHANNELS = 3


class ConvolutionLayer(LayerFacts):
    """A layer: its name, the side of its patches (1 for a layer of units) and the step between them."""

    name: str
    size: int
    stride: int


class ConvolutionFacts(TargetFacts):
    """Facts beside the arrays: the target, the epoch that was taken, the number of features, and the layers."""

    epoch: int
    features: int
    layers: tuple[ConvolutionLayer, ...]


@dataclass(frozen=True)
class Convolution:
    """Positions and scales of pixels and other features, and of each layer whole weights (inputs, outputs) and a bias.

    `pixels` are positions of features, (channels, side, side); `levels` the mean and 1 over the deviation of each
    channel. What the time of the fit has `cut` is not stored.
    """

    facts: ConvolutionFacts
    pixels: np.ndarray
    others: np.ndarray
    levels: np.ndarray
    scales: np.ndarray
    weights: tuple[np.ndarray, ...]
    biases: tuple[np.ndarray, ...]
    cut: Mapping[str, int] = field(default_factory=dict, compare=False)

    @cached_property
    def layers(self) -> dict[str, tuple[ConvolutionLayer, np.ndarray, np.ndarray]]:
        """Facts, weights in float64 and bias of each layer."""
        triples = zip(self.facts.layers, self.weights, self.biases, strict=True)
        return {facts.name: (facts, weight.astype(np.float64), bias) for facts, weight, bias in triples}


class ConvolutionFamily(Family[ConvolutionParams, Convolution]):
    """Residual networks for small pictures, with the other columns of the table."""

    name = "convolution"
    encoding = "pixels"
    complexity = 13
    """After the network, of which it is a part."""
    params = ConvolutionParams
    is_searched_by_default = False
    libraries = ("torch",)

    def space(self, task: Task) -> dict[str, Domain]:
        """Search the learning rate, the width, and whether a mirrored picture means the same."""
        rates, widths = Uniform(0.02, 0.3, log=True), Integer(8, 32, log=True)
        return {"learning_rate": rates, "width": widths, "mirrored": Choice((False, True))}

    def portfolio(self, task: Task, num_rows: int) -> list[dict[str, Any]]:
        """The defaults, with mirrored pictures and without."""
        return [{}, {"mirrored": True}]

    def fit(
        self,
        train: Matrix,
        validation: Matrix | None,
        task: Task,
        params: ConvolutionParams,
        *,
        seed: int,
        threads: int,
        progress: Progress | None = None,
        seconds: float | None = None,
    ) -> Convolution:
        """Train a network; the same seed, rows and threads give the same one."""
        deadline, alone = Deadline(seconds, "torch"), Workers()
        pixels, others = positions(train.types)
        # 1. The rows that there is time for.
        present = present_classes(train, alone) if task.is_classification else ()
        most = min(train.num_rows, params.rows)
        shape = (params.step_rows(most), len(pixels), pixels.shape[1], len(others))
        cut: dict[str, int] = {}
        if deadline.is_set and len(present) != 1:
            step_s = deadline.seconds_of(lambda: probe(shape, len(present), params, threads)) / PROBE_STEPS
            cut = epochs_in_time(most, step_s * params.num_steps(most), params, deadline)
        params = params.model_copy(update=cut)
        if params.rows < train.num_rows:
            train = train.take(drawn(np.random.default_rng(seed), train.num_rows, params.rows))
        # 2. Pictures and features at scales of their own, and the training.
        levels, scales = _levels(train.X, pixels), np.stack(centre_and_scale(train.X[:, others], alone))
        inputs = _Inputs(pixels, others, levels, scales)
        target = TargetFacts.of(train.y, len(task.classes), present)
        if len(present) == 1:
            facts = ConvolutionFacts(**target.model_dump(), epoch=1, features=train.num_features, layers=())
            return Convolution(facts, pixels, others, levels, scales, (), ())
        held = None if validation is None else inputs.rows(target.known(validation), target)
        how: dict[str, Any] = {"seed": seed, "threads": threads, "progress": progress, "deadline": deadline}
        trained = train_convolution(inputs.rows(train, target), held, params, len(present), **how)
        # 3. Its weights as whole numbers.
        layers, weights, biases = _whole(trained, inputs.pictures(train.X[:MEASURED_ROWS]))
        facts = ConvolutionFacts(**target.model_dump(), epoch=trained.epoch, features=train.num_features, layers=layers)
        return Convolution(facts, pixels, others, levels, scales, weights, biases, {**cut, **trained.cut})

    def predict(self, model: Convolution, X: np.ndarray) -> np.ndarray:
        """Predict values, or probabilities by softmax."""
        check_width(X, model.facts.features, self.name)
        starts = range(0, max(1, X.shape[0]), BLOCK_ROWS)
        scores = np.concatenate([_scores(model, X[start : start + BLOCK_ROWS]) for start in starts])
        return model.facts.backward(scores)

    def max_rounds(self, params: ConvolutionParams) -> int:
        return params.num_epochs

    def rounds(self, model: Convolution) -> int:
        """The epoch that was taken."""
        return model.facts.epoch

    def of_rounds(self, params: ConvolutionParams, rounds: int) -> ConvolutionParams:
        """The parameters of a fit that ends after that epoch, with the learning rates that it had."""
        return params.model_copy(update={"last_epoch": rounds})

    def params_of_refit(self, params: ConvolutionParams, model: Convolution, growth: float) -> ConvolutionParams:
        """Those that end after the epoch that was taken: an epoch of more rows has more steps by itself."""
        return self.of_rounds(params, self.rounds(model))

    def params_for_comparison(self, params: ConvolutionParams, task: Task, rows: Matrix) -> ConvolutionParams:
        """A part of the epochs: more of them are better, but by less than families differ."""
        epochs = max(COMPARED_EPOCHS, -(-COMPARED_STEPS // params.num_steps(rows.num_rows)))
        return params.model_copy(update={"epochs": min(params.epochs, epochs)})

    def note_on_cheaper(self, params: ConvolutionParams, used: Sequence[ConvolutionParams]) -> str | None:
        epochs = min(each.epochs for each in used)
        return None if epochs == params.epochs else f"convolution: compared with {epochs} epochs, to limit the cost"

    def cut(self, model: Convolution) -> dict[str, Any]:
        return dict(model.cut)

    def save(self, model: Convolution, folder: Path) -> None:
        """Write ``convolution.json`` and the arrays, ``convolution.npz``."""
        write_facts(folder / "convolution.json", model.facts)
        arrays = {name: getattr(model, name) for name in ("pixels", "others", "levels", "scales")}
        for facts, weight, bias in zip(model.facts.layers, model.weights, model.biases, strict=True):
            arrays |= {f"weight {facts.name}": weight, f"bias {facts.name}": bias}
        write_arrays(folder / "convolution.npz", arrays)

    def load(self, folder: Path) -> Convolution:
        """Read ``convolution.json`` and ``convolution.npz``, whose arrays have to fit each other."""
        facts, file = read_facts(folder / "convolution.json", ConvolutionFacts), folder / "convolution.npz"
        kinds = {"pixels": ("<i4", 3), "others": ("<i4", 1), "levels": ("<f8", 2), "scales": ("<f8", 2)}
        for layer in facts.layers:
            kinds |= {f"weight {layer.name}": ("<i4", 2), f"bias {layer.name}": ("<f8", 1)}
        arrays = read_arrays(file, kinds)
        weights, biases = (tuple(arrays[f"{kind} {each.name}"] for each in facts.layers) for kind in ("weight", "bias"))
        pixels, others, levels, scales = (arrays[name] for name in ("pixels", "others", "levels", "scales"))
        model = Convolution(facts, pixels, others, levels, scales, weights, biases)
        try:
            self.predict(model, np.zeros((1, facts.features), np.float32))
        except (ValueError, IndexError, KeyError) as error:
            raise damaged(file, str(error), "layers that fit each other") from None
        return model


FAMILY = ConvolutionFamily()


def positions(types: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Positions of the pixels of all pictures, (channels, side, side), and those of the other features.

    A smaller picture is enlarged to the side of the largest, each of its pixels to several.

    >>> pixels, others = positions(["q", "P", *["p"] * 11, "P", "p", "p"])
    >>> pixels.shape, pixels[3].tolist(), others.tolist()
    ((6, 2, 2), [[13, 13], [13, 13]], [0])

    Raises
    ------
    FeatureError
        No feature is a pixel.
    """
    kinds = np.array(types)
    starts, is_pixel = np.flatnonzero(kinds == "P"), np.isin(kinds, ("P", "p"))
    if not starts.size:
        hint = "leave convolution out, or bring a column of pictures: data.kinds: {column: image}"
        got = f"{len(types):,} features, none of which is a pixel"
        raise errors.FeatureError.build("models: family 'convolution'", got=got, expected="pictures", hint=hint)
    counts = np.diff(np.cumsum(is_pixel)[starts] - 1, append=is_pixel.sum())
    sides = [math.isqrt(int(count) // CHANNELS) for count in counts]
    largest, blocks = max(sides), []
    for start, side in zip(starts, sides, strict=True):
        places = np.arange(largest) * side // largest
        squares = start + np.arange(side * side * CHANNELS).reshape(side, side, CHANNELS)
        blocks.append(squares[places][:, places].transpose(2, 0, 1))
    return np.concatenate(blocks).astype("<i4"), np.flatnonzero(~is_pixel).astype("<i4")


@dataclass(frozen=True)
class _Inputs:
    """The way of rows into the form in which the layers take them."""

    pixels: np.ndarray
    others: np.ndarray
    levels: np.ndarray
    scales: np.ndarray

    def pictures(self, X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Pictures (rows, channels, side, side) about 0, where a missing one is, and other features, in float64."""
        levels = np.clip(X[:, self.pixels].astype(np.float64), 0.0, 1.0)
        mean, factor = (each[:, None, None] for each in self.levels)
        z = (levels - mean) * factor
        return np.where(np.isnan(z), 0.0, z), scaled(X[:, self.others], *self.scales)

    def rows(self, rows: Matrix, target: TargetFacts) -> Pictures:
        """Rows to train on or to judge."""
        pictures = np.empty((rows.num_rows, *self.pixels.shape), np.float32)
        for start in range(0, rows.num_rows, BLOCK_ROWS):
            pictures[start : start + BLOCK_ROWS] = self.pictures(rows.X[start : start + BLOCK_ROWS])[0]
        return pictures, scaled_rows(rows.X[:, self.others], *self.scales), target.forward(rows.y)


def _levels(X: np.ndarray, pixels: np.ndarray) -> np.ndarray:
    """Mean of each channel, and 1 over its deviation, over the pixels of every k-th row: ``(2, channels)``."""
    measures, X = [], X[:: -(-len(X) // LEVEL_ROWS) or 1]
    for channel in pixels:
        values = X[:, np.unique(channel)].astype(np.float64)
        values = np.clip(values[np.isfinite(values)], 0.0, 1.0)
        spread = float(values.std()) if values.size else 0.0
        measures.append((float(values.mean()) if values.size else 0.0, 1 / spread if spread > 0 else 0.0))
    return np.array(measures).T


def _forward(
    pictures: np.ndarray, others: np.ndarray, names: Sequence[str], layer: Callable[[str, np.ndarray], np.ndarray]
) -> np.ndarray:
    """Pass rows through the layers, pictures with their channels last; the scores, (rows, outputs)."""
    x = np.maximum(layer("stem", np.ascontiguousarray(pictures.transpose(0, 2, 3, 1))), 0.0)
    for number in range(sum(name.endswith("-0") for name in names)):
        z = np.maximum(layer(f"block-{number}-0", x), 0.0)
        around = f"block-{number}-around"
        x = np.maximum(layer(f"block-{number}-1", z) + (layer(around, x) if around in names else x), 0.0)
    places = x.reshape(len(x), x.shape[1] * x.shape[2], x.shape[3])
    joined = ordered_sum(places, axis=1) / places.shape[1]
    if "hidden" in names:
        joined = np.concatenate([joined, np.maximum(layer("hidden", others), 0.0)], axis=1)
    return layer("last", joined)


def patches(x: np.ndarray, size: int, stride: int) -> np.ndarray:
    """Patches of pictures with channels last, amid zeros: (…, inputs), by row, column and channel; units stay alone."""
    if x.ndim == 2:
        return x
    if size == 1:
        return x[:, ::stride, ::stride]
    rim = size // 2
    wide = np.pad(x, ((0, 0), (rim, rim), (rim, rim), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(wide, (size, size), axis=(1, 2))[:, ::stride, ::stride]
    return windows.transpose(0, 1, 2, 4, 5, 3).reshape(*windows.shape[:3], size * size * x.shape[3])


def _whole(
    trained: TrainedConvolution, rows: tuple[np.ndarray, np.ndarray]
) -> tuple[tuple[ConvolutionLayer, ...], tuple[np.ndarray, ...], tuple[np.ndarray, ...]]:
    """Round the weights to whole numbers, with steps for inputs `ROOM` times those of the training rows."""
    flat = {name: _flat(layer) for name, layer in trained.layers.items()}
    largest = dict.fromkeys(flat, 1e-3)

    def layer(name: str, x: np.ndarray) -> np.ndarray:
        own = trained.layers[name]
        largest[name] = max(largest[name], float(np.abs(x).max(initial=0.0)))
        return np.asarray(patches(x, own.weight.shape[2], own.stride) @ flat[name] + own.bias)

    for start in range(0, len(rows[0]), BLOCK_ROWS):
        pictures, others = (each[start : start + BLOCK_ROWS] for each in rows)
        _forward(pictures, others, tuple(flat), layer)
    facts, weights = [], []
    for name, weight in flat.items():
        arithmetic, whole = rounded(weight, ROOM * largest[name])
        shape = {"name": name, "size": trained.layers[name].weight.shape[2], "stride": trained.layers[name].stride}
        facts.append(ConvolutionLayer(**arithmetic.model_dump(), **shape))
        weights.append(whole)
    return tuple(facts), tuple(weights), tuple(layer.bias for layer in trained.layers.values())


def _flat(layer: Folded) -> np.ndarray:
    """The weights of a layer, (inputs, outputs), inputs as `patches` has them."""
    return layer.weight.transpose(2, 3, 1, 0).reshape(-1, len(layer.weight))


def _scores(model: Convolution, X: np.ndarray) -> np.ndarray:
    """Compute the outputs of the last layer, (rows, outputs); zeros where there is none."""
    if not model.facts.layers:
        return np.zeros((X.shape[0], 1))
    rows = _Inputs(model.pixels, model.others, model.levels, model.scales).pictures(X)

    def layer(name: str, x: np.ndarray) -> np.ndarray:
        facts, weight, bias = model.layers[name]
        return facts.sums(patches(facts.whole(x), facts.size, facts.stride), weight, bias)

    return _forward(*rows, tuple(model.layers), layer)
