"""Pictures through somebody's own function: the door for neural networks.

An encoder is a function of one picture, ``(height, width, 3)`` uint8, upright, red, green and
blue, that gives a vector of numbers, always of one length and always the same for the same
picture. With torch, for example::

    net = torchvision.models.resnet18(weights="DEFAULT").eval()
    net.fc = torch.nn.Identity()

    def encode(pixels):
        with torch.inference_mode():
            return net(prepare(torch.from_numpy(pixels).permute(2, 0, 1))[None])[0].numpy()

    features: {columns: {photo: {operation: image, encoder: "my_encoders:encode"}}}

It is given one picture at a time, by several threads: libraries round differently by the size
of a batch, and a row must have the same bits alone and among others.

A bundle holds the encoder's name and the SHA-256 of its module's file, never its code. Loading
a bundle must not run what a stranger wrote into it, so a process imports the encoders alone
that its own environment lists (`ENVIRONMENT`: names joined by commas), be it to train or to
serve, and refuses one whose file has changed since training. What the file itself reads, such
as weights, is for its author to pin.
"""

from __future__ import annotations

import hashlib
import importlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mlsys import errors, images, recipe
from mlsys.features.domains import Domain
from mlsys.features.operations.image import PictureOperation
from mlsys.limits import FLOAT32_MAX, MAX_COLUMNS

__all__ = ["ENVIRONMENT", "ImageEncoding", "encoder_digests", "fitted"]

ENVIRONMENT = "MLSYS_ENCODERS"

Encoder = Callable[[npt.NDArray[np.uint8]], Any]


@dataclass(frozen=True)
class ImageEncoding(PictureOperation):
    """The vector that an encoder gives.

    Attributes
    ----------
    encoder
        ``module:function``.
    source
        SHA-256 of the module's file in training.
    width
        Length of the vector.
    """

    encoder: str = ""
    source: str = ""
    width: int = 0

    name = "encoder"

    @property
    def labels(self) -> list[str]:
        return [f"encoded {at}" for at in range(self.width)]

    @cached_property
    def function(self) -> Encoder:
        """The encoder of training.

        Raises
        ------
        FeatureError
            This process may not or cannot import it.
        BundleError
            Its file has changed since training.
        """
        function, source = _import(self.encoder)
        if source != self.source:
            raise errors.BundleError.build(
                f"features: encoder {self.encoder}",
                got=f"a file with SHA-256 {source[:12]}…",
                expected=f"the file of training, {self.source[:12]}…",
                hint="install the version that the model was trained with, or train again",
            )
        return function

    def writer(self, start: int) -> Any:
        _ = self.function  # a model that cannot be served is refused when it is loaded, not at the first request
        return super().writer(start)

    def describe(self, data: Sequence[bytes]) -> npt.NDArray[np.float64]:
        return np.stack([self._vector(images.decode(one)) for one in data])

    def _vector(self, picture: images.Picture) -> npt.NDArray[np.float64]:
        found = _called(self.encoder, self.function, np.asarray(picture.image.convert("RGB")))
        if found.shape != (self.width,):
            got = f"a vector of shape {found.shape} for a picture of {picture.width} × {picture.height}"
            raise _misbehaved(self.encoder, got, f"{self.width} numbers, as for others")
        return found


def fitted(column: str, domain: Domain, encoder: str, *, stand_in: float | None, indicator: bool) -> ImageEncoding:
    """The operation of an encoder, its width found with a picture of noise.

    Raises
    ------
    FeatureError
        This process may not or cannot import it, or it gives no vector, or not always the same.
    """
    function, source = _import(encoder)
    noise = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    first, second = _called(encoder, function, noise), _called(encoder, function, noise.copy())
    if first.ndim != 1 or not 0 < len(first) <= MAX_COLUMNS:
        raise _misbehaved(encoder, f"an array of shape {first.shape}", f"a vector of 1 to {MAX_COLUMNS:,} numbers")
    if first.tobytes() != second.tobytes():
        raise _misbehaved(encoder, "two vectors for one picture", "always the same one")
    return ImageEncoding(column, domain, stand_in, indicator, encoder, source, len(first))


def encoder_digests(features: recipe.Features) -> dict[str, str]:
    """Encoders that a recipe names → SHA-256 of their files: what a fit depends on besides the recipe.

    Raises
    ------
    FeatureError
        As `fitted`.
    """
    lines = [line.options for lines in features.columns.values() for line in lines]
    return {name: _import(name)[1] for line in lines if (name := line.get("encoder"))}


def _called(encoder: str, function: Encoder, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
    found = np.asarray(function(pixels))
    if found.dtype.kind not in "fiub":
        raise _misbehaved(encoder, f"an array of {found.dtype}", "an array of numbers")
    numbers = found.astype(np.float64)
    if not np.isfinite(numbers).all() or (np.abs(numbers) > FLOAT32_MAX).any():
        raise _misbehaved(encoder, "NaN, or a number beyond float32", "finite numbers")
    return numbers


def _import(encoder: str) -> tuple[Encoder, str]:
    """The function and the digest of its module's file, if this process may import it."""
    where = f"features: encoder {encoder}"
    allowed = [name.strip() for name in os.environ.get(ENVIRONMENT, "").split(",") if name.strip()]
    if encoder not in allowed:
        raise errors.FeatureError.build(
            where,
            got=f"{ENVIRONMENT}={','.join(allowed)}" if allowed else f"no {ENVIRONMENT} in the environment",
            expected="the encoder listed there: importing it runs its code",
            hint=f"if you trust it: export {ENVIRONMENT}={','.join([*allowed, encoder])}, before `mlsys up`",
        )
    module_name, _, name = encoder.partition(":")
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise errors.FeatureError.build(
            where, got=str(error), expected="a module on this process's path", hint="install it, or export PYTHONPATH"
        ) from None
    function, file = getattr(module, name, None), getattr(module, "__file__", None)
    if not callable(function) or file is None:
        hint = errors.did_you_mean(name, [known for known in vars(module) if not known.startswith("_")])
        raise errors.FeatureError.build(where, got=f"no function '{name}' in {module_name}", expected="one", hint=hint)
    return function, hashlib.sha256(Path(file).read_bytes()).hexdigest()


def _misbehaved(encoder: str, got: str, expected: str) -> errors.FeatureError:
    return errors.FeatureError.build(f"features: encoder {encoder}", got=got, expected=expected)
