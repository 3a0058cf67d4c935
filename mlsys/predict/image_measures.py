"""Measures of pictures: a few numbers whose distribution training keeps and the monitor compares.

==========  ==============================================================================
measure     meaning
==========  ==============================================================================
width       pixels, upright
height      pixels, upright
brightness  mean level, 0 (black) to 1 (white); grey by the luma of ITU-R BT.601
contrast    standard deviation of the levels, 0 to 0.5
saturation  mean saturation (HSV), 0 (grey) to 1
warmth      mean red less mean blue, -1 to 1
==========  ==============================================================================

Each is a column of its own, ``photo: brightness`` of the column ``photo``, null where there is
no picture or one that does not decode. Levels are those of the whole picture, of a large JPEG
as `images.decode` reads one of which `ENOUGH_PIXELS` pixels a side are enough.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import pyarrow as pa

from mlsys import images
from mlsys.images import UndecodableError
from mlsys.schema import Column, Kind, Schema, Task
from mlsys.statistics import TableStatistics

MEASURES = ("width", "height", "brightness", "contrast", "saturation", "warmth")

NO_MEASURES = (None,) * len(MEASURES)


def pictures(schema: Schema) -> list[str]:
    """Name the features that are pictures."""
    return [column.name for column in schema.features if column.kind is Kind.IMAGE]


def columns(name: str) -> tuple[Column, ...]:
    """Describe the columns that hold the measures of a column of pictures."""
    return tuple(Column(name=f"{name}: {measure}", type="double", kind=Kind.NUMERIC) for measure in MEASURES)


def measured(table: pa.Table, names: Sequence[str]) -> pa.Table:
    """Measure some columns of pictures: the measures alone, without the table's columns."""
    arrays = {}
    for name in names:
        pictures = images.each(measure, table[name].to_pylist())
        for index, column in enumerate(columns(name)):
            arrays[column.name] = pa.array([measures[index] for measures in pictures], pa.float64())
    return pa.table(arrays)


def measure(data: bytes | None) -> tuple[float | None, ...]:
    """Compute the `MEASURES` of a picture, all None where it does not decode."""
    if data is None:
        return NO_MEASURES
    try:
        picture = images.decode(data, images.ENOUGH_PIXELS)
    except UndecodableError:
        return NO_MEASURES
    levels, spread = _level(picture.image.convert("L").histogram())
    saturation = warmth = 0.0
    if not picture.is_grey:
        saturation = _level(picture.image.convert("HSV").getchannel("S").histogram())[0]
        counts = picture.image.histogram()
        warmth = _level(counts[:256])[0] - _level(counts[512:])[0]
    return float(picture.width), float(picture.height), levels, spread, saturation, warmth


def _level(counts: Sequence[int]) -> tuple[float, float]:
    """Compute mean and standard deviation of counted levels, 0 to 1, from sums of whole numbers, which are exact."""
    times, steps = np.array(counts, np.int64), np.arange(256)
    total = int(times.sum())
    mean = int(times @ steps) / total
    variance = int(times @ (steps * steps)) / total - mean * mean
    return mean / 255, float(np.sqrt(max(variance, 0.0))) / 255


def statistics(tables: Iterable[pa.Table], names: Sequence[str], task: Task) -> TableStatistics:
    """Collect statistics of the measures over the rows of some tables."""
    schema = Schema(columns=tuple(column for name in names for column in columns(name)))
    collected = TableStatistics.empty(schema, task)
    for table in tables:
        collected.update(measured(table, names))
    return collected
