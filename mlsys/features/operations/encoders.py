"""Encoders: functions of a user, such as neural networks, that turn a picture into a vector.

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

A bundle holds the encoder's name and the SHA-256 of its module's file, never its code. A process imports only the
encoders that its own environment lists (`ENVIRONMENT`: names joined by commas), and refuses one whose file has changed
since training. What the file reads, such as weights, is for its author to pin.
"""

from __future__ import annotations

import hashlib
import importlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mlsys import errors, recipe
from mlsys.limits import FLOAT32_MAX, MAX_COLUMNS

ENVIRONMENT = "MLSYS_ENCODERS"

Encoder = Callable[[npt.NDArray[np.uint8]], Any]


def load_encoder(encoder: str) -> tuple[Encoder, str]:
    """Import an encoder, with the SHA-256 of its module's file; `FeatureError` if this process may not or cannot."""
    where = f"features: encoder {encoder}"
    allowed = [name.strip() for name in os.environ.get(ENVIRONMENT, "").split(",") if name.strip()]
    if encoder not in allowed:
        got = f"{ENVIRONMENT}={','.join(allowed)}" if allowed else f"no {ENVIRONMENT} in the environment"
        expected = "the encoder listed there: importing it runs its code"
        hint = f"if you trust it: export {ENVIRONMENT}={','.join([*allowed, encoder])}, before `mlsys up`"
        raise errors.FeatureError.build(where, got=got, expected=expected, hint=hint)
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


def encode(encoder: str, function: Encoder, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
    """Encode one picture; refuse what is not an array of finite numbers."""
    vector = np.asarray(function(pixels))
    if vector.dtype.kind not in "fiub":
        raise misbehaviour(encoder, f"an array of {vector.dtype}", "an array of numbers")
    numbers = vector.astype(np.float64)
    if not np.isfinite(numbers).all() or (np.abs(numbers) > FLOAT32_MAX).any():
        raise misbehaviour(encoder, "NaN, or a number beyond float32", "finite numbers")
    return numbers


def probe_encoder(encoder: str) -> tuple[str, int]:
    """Try an encoder on a picture of noise; the SHA-256 of its module's file and the length of its vectors.

    It raises `FeatureError` as `load_encoder` does, and if there is no vector, or not always the same.
    """
    function, digest = load_encoder(encoder)
    noise = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    first, second = encode(encoder, function, noise), encode(encoder, function, noise.copy())
    if first.ndim != 1 or not 0 < len(first) <= MAX_COLUMNS:
        raise misbehaviour(encoder, f"an array of shape {first.shape}", f"a vector of 1 to {MAX_COLUMNS:,} numbers")
    if first.tobytes() != second.tobytes():
        raise misbehaviour(encoder, "two vectors for one picture", "always the same one")
    return digest, len(first)


def encoder_digests(features: recipe.FeaturesSection) -> dict[str, str]:
    """Encoders that a recipe names → SHA-256 of their files, by `load_encoder`: a fit depends on them, too."""
    options = [treatment.options for treatments in features.columns.values() for treatment in treatments]
    return {name: load_encoder(name)[1] for given in options if (name := given.get("encoder"))}


def misbehaviour(encoder: str, got: str, expected: str) -> errors.FeatureError:
    """Build the error of an encoder that gave something else than the promised vector."""
    return errors.FeatureError.build(f"features: encoder {encoder}", got=got, expected=expected)
