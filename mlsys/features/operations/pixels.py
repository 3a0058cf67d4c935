"""Operation ``pixels``: a picture as the levels of a small square, for families that look at neighbours.

The picture is stretched to ``size`` × ``size`` pixels in red, green and blue; a grey one has three equal channels.
Levels run from 0 to 1, row by row, the three channels of a pixel side by side. The first level of a picture has the
type ``P`` and the others ``p``, so that a family knows which features are one picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from mlsys import images
from mlsys.features.operations.image import GAP, PictureOperation, refuse_bytes
from mlsys.features.operations.operation import FitInputs, OperationSpec, PlanInputs
from mlsys.recipe.columns import PixelsOptions
from mlsys.statistics.arrays import Floats

CHANNELS = ("red", "green", "blue")

SMALL, SIDE = 16, 32
"""Side of the square for pictures that are all that small, and for others (that of CIFAR-10)."""


@dataclass(frozen=True)
class Pixels(PictureOperation):
    """Take the levels of a picture that is stretched to a square of `side` pixels."""

    side: int = SIDE

    name = "pixels"

    @cached_property
    def labels(self) -> list[str]:
        places = [f"{y},{x}" for y in range(self.side) for x in range(self.side)]
        return [f"{channel} {place}" for place in places for channel in CHANNELS]

    @property
    def types(self) -> list[str]:
        return ["P", *["p"] * (len(self.labels) - 1), *["q"] * self.indicator]

    def describe(self, data: Sequence[bytes]) -> Floats:
        squares = np.stack([self._square(picture) for picture in data])
        return squares.reshape(len(data), -1) / 255.0

    def _square(self, data: bytes) -> npt.NDArray[np.uint8]:
        from PIL.Image import Resampling

        image = images.decode(data, 2 * self.side).image.convert("RGB")
        return np.asarray(image.resize((self.side, self.side), Resampling.BILINEAR, reducing_gap=GAP))


def _params(inputs: PlanInputs) -> dict[str, Any]:
    pictures = inputs.statistics.images
    is_small = pictures is not None and max(pictures.widths.maximum or 0, pictures.heights.maximum or 0) <= SMALL
    return {"size": SMALL if is_small else SIDE}


def _fit(inputs: FitInputs) -> Pixels:
    indicator = inputs.dense and inputs.has_missing
    return Pixels(inputs.column, inputs.domain, 0.0 if inputs.dense else None, indicator, inputs.params["size"])


PIXELS = OperationSpec(
    PixelsOptions,
    ("bytes",),
    fitted=(Pixels,),
    fit=_fit,
    params=_params,
    check=refuse_bytes,
    num_coordinates=lambda params: len(CHANNELS) * params["size"] ** 2,
)
