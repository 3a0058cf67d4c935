"""Data sets that come with scikit-learn, by their URI such as ``sklearn://iris``."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa

from mlsys import errors
from mlsys.readers.base import BadRecord, Batch, Fragment, Growth, Reader, typed_batches
from mlsys.recipe import Reading


class BuiltInReader(Reader):
    """A data set of scikit-learn as a table; its target column is named ``target``."""

    format = "sklearn"
    schemes = ("sklearn",)

    def fragments(self, source: str, reading: Reading) -> list[Fragment]:
        return [Fragment(source, source, self.format, 0, stamp="")]

    def schema(self, fragment: Fragment) -> tuple[pa.Schema, int] | None:
        table = _load(fragment)
        return table.schema, table.num_rows

    def batches(
        self, fragment: Fragment, reading: Reading, bad_records: list[BadRecord], growth: Growth | None = None
    ) -> Iterator[Batch]:
        return typed_batches(fragment, [_load(fragment)])


def _load(fragment: Fragment) -> pa.Table:
    from sklearn import datasets

    name = fragment.location.removeprefix("sklearn://")
    known = [loader.removeprefix("load_") for loader in dir(datasets) if loader.startswith("load_")]
    loader = getattr(datasets, f"load_{name}", None)
    try:
        frame = loader(as_frame=True).frame if loader else None
    except TypeError:  # sets of images and files know no frame
        frame = None
    if frame is None:
        raise errors.SourceError.missing(fragment.location, known)
    return pa.Table.from_pandas(frame, preserve_index=False).replace_schema_metadata(None)
