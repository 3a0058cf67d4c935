"""Folders of pictures or texts as tables: each PNG, JPEG or text file is a row.

Such a table has three columns: ``file``, the name below the folder; ``label``, the name of the
folder that holds the file, null at the top; and ``image``, the bytes, or ``text``, the decoded text.
A text file in another encoding than ``data.reading`` says is a bad record that names its first wrong
byte. A column of a table may hold pictures too, as bytes, as base64 text or as paths: `picture_bytes`
reads those, and `decoded_pictures` finds the ones that do not decode.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path, PurePosixPath

import numpy as np
import pyarrow as pa

from mlsys import errors, images
from mlsys.readers import files
from mlsys.readers.base import BadRecord, Batch, Fragment, Growth, Reader
from mlsys.readers.files import File
from mlsys.recipe import Reading
from mlsys.schema import Kind

FILE, LABEL, IMAGE, TEXT = "file", "label", "image", "text"
NAMES = pa.schema([(FILE, pa.string()), (LABEL, pa.string())])

MAX_FILES, MAX_FOLDER_BYTES = 4096, 1 << 28
"""Files of a folder that one task reads, in number and in bytes."""

IMAGE_ROWS, TEXT_ROWS = 256, 4_096
"""Pictures and texts in memory at a time."""

MAX_BYTES = 1 << 26
"""Bytes of a file at most: 64 MiB, twice what `images.MAX_PIXELS` take in a careless JPEG."""


class FolderReader(Reader):
    """Files that are a row each, in fragments of bounded size."""

    def fragments_of_files(self, listed: Sequence[File]) -> list[Fragment]:
        groups: list[list[File]] = []
        num_bytes = 0
        for file in listed:
            if not groups or len(groups[-1]) == MAX_FILES or num_bytes + file.num_bytes > MAX_FOLDER_BYTES:
                groups.append([])
                num_bytes = 0
            groups[-1].append(file)
            num_bytes += file.num_bytes
        return [
            Fragment(_name(group), group[0].location, self.format, sum(file.num_bytes for file in group), tuple(group))
            for group in groups
        ]


class ImageReader(FolderReader):
    """A folder of PNG and JPEG files, bytes as they are."""

    format = "image"
    suffixes = (".png", ".jpg", ".jpeg")
    kinds = {IMAGE: Kind.IMAGE}  # noqa: RUF012

    def schema(self, fragment: Fragment) -> tuple[pa.Schema, int] | None:
        return NAMES.append(pa.field(IMAGE, pa.binary())), len(fragment.files)

    def batches(
        self, fragment: Fragment, reading: Reading, bad_records: list[BadRecord], growth: Growth | None = None
    ) -> Iterator[Batch]:
        for first in range(0, len(fragment.files), IMAGE_ROWS):
            group = fragment.files[first : first + IMAGE_ROWS]
            data = pa.array([_bytes(file) for file in group], pa.binary())
            yield Batch(names_and_labels(group).append_column(IMAGE, data), np.arange(first, first + len(group)))


class TextReader(FolderReader):
    """A folder of ``.txt`` files, decoded; the recipe has to say ``format: text``, for they may be tables."""

    format = "text"
    suffixes = (".txt",)
    kinds = {TEXT: Kind.TEXT}  # noqa: RUF012

    def matches_file(self, name: str) -> bool:
        return name.lower().endswith(self.suffixes)

    def batches(
        self, fragment: Fragment, reading: Reading, bad_records: list[BadRecord], growth: Growth | None = None
    ) -> Iterator[Batch]:
        for first in range(0, len(fragment.files), TEXT_ROWS):
            group, texts, rows = [], [], []
            for row, file in enumerate(fragment.files[first : first + TEXT_ROWS], first):
                text, fault = _text(file, reading.encoding)
                if fault:
                    bad_records.append(BadRecord(row, fault, text))
                else:
                    group.append(file)
                    texts.append(text)
                    rows.append(row)
            table = names_and_labels(group).append_column(TEXT, pa.array(texts, pa.string()))
            yield Batch(table, np.array(rows, np.int64))


def names_and_labels(group: Sequence[File]) -> pa.Table:
    """Names and labels of files, without their contents."""
    labels = [PurePosixPath(file.name).parent.name or None for file in group]
    return pa.table([[file.name for file in group], labels], schema=NAMES)


def decoded_pictures(values: pa.Array, location: str) -> tuple[pa.Array, dict[str, pa.Array]]:
    """Bytes of pictures that decode, and for each reason the mask of the rows that have none.

    Parameters
    ----------
    location
        Place of the table: paths that are not absolute count from its folder.
    """

    def check(value: bytes | str | None) -> tuple[bytes | None, str | None]:
        data, reason = picture_bytes(value, location)
        return data, reason or (None if data is None else images.fault(data))

    pictures = images.each(check, values.to_pylist())
    data = pa.array([None if reason else data for data, reason in pictures], pa.binary())
    reasons = dict.fromkeys(reason for _, reason in pictures if reason)
    return data, {each: pa.array([reason == each for _, reason in pictures], pa.bool_()) for each in reasons}


def picture_bytes(
    value: bytes | str | None, location: str, may_read: Callable[[str], bool] = lambda _: True
) -> tuple[bytes | None, str | None]:
    """Bytes of a picture given as bytes, base64 text, a path or a URI; or the reason why there are none.

    Only of places that `may_read` allows is anything read.
    """
    if not isinstance(value, str):
        return value, None
    data = _from_base64(value)
    return (data, None) if data is not None else _at_path(value, location, may_read)


def _from_base64(text: str) -> bytes | None:
    """Bytes of a base64 text, if they begin as a picture does: any other text may be a path."""
    try:
        data = base64.b64decode(text.encode("ascii"), validate=True)
    except (binascii.Error, UnicodeEncodeError):
        return None
    return data if images.is_encoded(data) else None


def _at_path(path: str, location: str, may_read: Callable[[str], bool]) -> tuple[bytes | None, str | None]:
    scheme = files.scheme(path)
    if scheme and scheme not in files.REMOTE:
        return None, f"{scheme}:// is not read"
    where = path if scheme else _beside(path, location)
    if not may_read(where):
        return None, "a place that is not read"
    try:
        with files.open_file(path, where) as opened:
            data = opened.read(MAX_BYTES + 1)
    except (errors.SourceError, OSError, ValueError):
        return None, "no file there that can be read"
    return (data, None) if len(data) <= MAX_BYTES else (None, f"more than {MAX_BYTES:,} bytes")


def _beside(path: str, location: str) -> str:
    """Place of a path that counts from the folder of `location`."""
    if files.scheme(location):
        return path if path.startswith("/") else f"{location.rpartition('/')[0]}/{path}"
    return str(Path(location).parent / path)


def _name(group: Sequence[File]) -> str:
    return group[0].name if len(group) == 1 else f"{group[0].name} … {group[-1].name}"


def _bytes(file: File) -> bytes:
    with files.open_file(file.name, file.location) as opened:
        return opened.read()


def _text(file: File, encoding: str) -> tuple[str, str | None]:
    """Decoded text without a byte-order mark, and the reason where it cannot be decoded."""
    data = _bytes(file)
    try:
        return data.decode(encoding).removeprefix("\ufeff"), None
    except UnicodeDecodeError as error:
        where = f"byte 0x{data[error.start]:02x} at offset {error.start}"
        return data.decode("latin-1"), f"file: {where} is not {encoding}"
