"""Delta and Iceberg tables as sources: one piece a data file, of a stated version (extra ``lake``).

``delta://path/to/table``, ``delta+s3://bucket/table``
    A Delta table; ``reading.version`` is a version number or a time.
``iceberg://catalog/namespace.table``
    A table of a catalog that ``.pyiceberg.yaml`` or ``PYICEBERG_CATALOG__…`` describes;
    ``reading.version`` is a snapshot id, a time, a tag or a branch.
``iceberg:///path/to/v3.metadata.json``
    An Iceberg table without a catalog.

Both are asked for their own schema, so a column that was added later is null in older files.
Data files never change, which is why they are known by their names, sizes and schema: of a
new version only the files that are new are read.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pyarrow as pa

from mlsys import errors
from mlsys.readers.base import Fragment
from mlsys.recipe import Reading
from mlsys.store import digest_json

__all__ = ["batches", "find", "schema"]

A_TABLE = (
    "a table that can be read",
    "delta://folder, which holds _delta_log; iceberg://catalog/namespace.table, the catalog as .pyiceberg.yaml has it",
)
A_VERSION = (
    "a table that can be read, at a version that it has",
    "reading: {version: …} names a version or a time; without it the latest is read",
)
A_FILE = (
    "a data file that can be read",
    "a VACUUM, or expired snapshots, remove the files of old versions; without reading.version the latest is read",
)
"""What is expected, and how to mend it: of a table, of a version, of a file."""


def find(source: str, reading: Reading) -> list[Fragment]:
    """The data files of a table at a version, older ones first.

    Raises
    ------
    SourceError
        The extra is not installed, or there is no such table or version.
    """
    scheme, _, rest = source.partition("://")
    is_path = scheme == "delta" or rest.endswith(".metadata.json")
    uri = f"{scheme}://{_path(rest)}" if is_path else source  # a task stands in another folder
    files = _delta_files if scheme.startswith("delta") else _iceberg_files
    with _asked(source, *(A_TABLE if reading.version is None else A_VERSION)):
        found = files(_shown(source), uri, reading.version)
    if not found:
        raise errors.SourceError.empty(source)
    return found


def schema(piece: Fragment) -> tuple[pa.Schema, int]:
    """Schema of the table, and rows of the file."""
    with _asked(piece.name, *A_FILE):
        return _delta_shape(piece) if piece.format == "delta" else _iceberg_shape(piece)


def batches(piece: Fragment) -> Iterator[pa.RecordBatch]:
    """Rows of one data file under the schema of the table."""
    with _asked(piece.name, *A_FILE):
        if piece.format == "delta":
            dataset, fragment = _delta_fragment(piece)
            yield from fragment.to_batches(schema=dataset.schema)
        else:
            scan, task = _iceberg_task(piece)
            yield from _arrow_scan(scan).to_record_batches([task])


def _delta_fragment(piece: Fragment) -> tuple[Any, Any]:
    uri, _, member = piece.location.partition("#")
    dataset = _delta_dataset(uri, str(piece.version))
    paths = {member, unquote(member)}  # the log of a table quotes paths, as in p=a%2520b for the folder p=a%20b
    return dataset, next(one for one in dataset.get_fragments() if one.path in paths)


def _delta_shape(piece: Fragment) -> tuple[pa.Schema, int]:
    dataset, fragment = _delta_fragment(piece)
    return dataset.schema, fragment.count_rows()


def _iceberg_task(piece: Fragment) -> tuple[Any, Any]:
    uri, _, member = piece.location.partition("#")
    scan = _iceberg_scan(uri, str(piece.version))
    return scan, next(one for one in scan.plan_files() if one.file.file_path == member)


def _iceberg_shape(piece: Fragment) -> tuple[pa.Schema, int]:
    from pyiceberg.io.pyarrow import schema_to_pyarrow

    scan, task = _iceberg_task(piece)
    num_rows = sum(one.num_rows for one in batches(piece)) if task.delete_files else task.file.record_count
    return schema_to_pyarrow(scan.projection(), include_field_ids=False), num_rows


def _delta_files(name: str, source: str, version: int | str | None) -> list[Fragment]:
    table = _delta_table(source, version)
    at = str(table.version())
    actions = pa.table(table.get_add_actions(flatten=True)).to_pylist()
    layout = str(table.schema().to_json())
    return [
        Fragment(
            f"{name}/{one['path']}",
            f"{source}#{one['path']}",
            "delta",
            one["size_bytes"],
            identity=digest_json([str(table.metadata().id), one["path"], one["size_bytes"], layout]),
            version=at,
        )
        for one in sorted(actions, key=lambda one: (one["modification_time"], one["path"]))
    ]


def _delta_table(source: str, version: int | str | None) -> Any:
    from deltalake import DeltaTable

    uri = source.removeprefix("delta+") if source.startswith("delta+") else source.removeprefix("delta://")
    number = int(version) if version is not None and _is_number(version) else None
    table = DeltaTable(uri, version=number)
    if version is not None and number is None:
        table.load_as_version(_time(str(version)))
    return table


@lru_cache(maxsize=4)
def _delta_dataset(source: str, version: str) -> Any:
    return _delta_table(source, version).to_pyarrow_dataset()


def _iceberg_files(name: str, source: str, version: int | str | None) -> list[Fragment]:
    table = _iceberg_table(source)
    snapshot = _iceberg_snapshot(name, table, version)
    scan = table.scan(snapshot_id=snapshot.snapshot_id)
    entries = table.inspect.entries(snapshot.snapshot_id).to_pylist()
    order = {one["data_file"]["file_path"]: one["sequence_number"] or 0 for one in entries}
    layout = str(scan.projection())
    tasks = sorted(scan.plan_files(), key=lambda one: (order.get(one.file.file_path, 0), one.file.file_path))
    return [
        Fragment(
            f"{name}/{one.file.file_path.rpartition('/')[2]}",
            f"{source}#{one.file.file_path}",
            "iceberg",
            one.file.file_size_in_bytes,
            identity=digest_json(
                [
                    str(table.metadata.table_uuid),
                    one.file.file_path,
                    one.file.file_size_in_bytes,
                    sorted(deleted.file_path for deleted in one.delete_files),
                    layout,
                ]
            ),
            version=str(snapshot.snapshot_id),
        )
        for one in tasks
    ]


def _iceberg_table(source: str) -> Any:
    rest = source.removeprefix("iceberg://")
    if rest.endswith(".metadata.json"):
        from pyiceberg.table import StaticTable

        return StaticTable.from_metadata(f"file://{rest}")
    from pyiceberg.catalog import load_catalog
    from pyiceberg.utils.config import Config

    catalog, _, name = rest.partition("/")
    stated: dict[str, Any] = (
        Config().get_catalog_config(catalog) or {}
    )  # load_catalog knows those of when it was imported
    with load_catalog(catalog, **stated) as opened:
        return opened.load_table(name)


def _iceberg_snapshot(source: str, table: Any, version: int | str | None) -> Any:
    if version is None:
        found = table.current_snapshot()
    elif _is_number(version):
        found = table.snapshot_by_id(int(version))
    else:
        found = table.snapshot_by_name(str(version))
        if found is None:
            found = table.snapshot_as_of_timestamp(int(_time(str(version)).timestamp() * 1000))
    if found is None:
        known = ", ".join(str(one.snapshot_id) for one in table.snapshots()[-5:])
        raise errors.SourceError.build(
            f"collect: source '{source}'",
            got="no snapshot" if version is None else f"no snapshot {version}",
            expected=f"one of {known}" if known else "a table with rows",
            hint="reading: {version: …} names a snapshot id, a time, a tag or a branch",
        )
    return found


@lru_cache(maxsize=4)
def _iceberg_scan(source: str, version: str) -> Any:
    return _iceberg_table(source).scan(snapshot_id=int(version))


def _arrow_scan(scan: Any) -> Any:
    from pyiceberg.io.pyarrow import ArrowScan

    return ArrowScan(scan.table_metadata, scan.io, scan.projection(), scan.row_filter, scan.case_sensitive)


@contextmanager
def _asked(source: str, expected: str, hint: str) -> Iterator[None]:
    """An error of the table's library becomes ours."""
    try:
        yield
    except errors.MlsysError:
        raise
    except ImportError as error:
        raise errors.SourceError.build(
            f"collect: source '{source}'",
            got=f"no package '{error.name}' in this environment",
            expected="the extra for Delta and Iceberg tables",
            hint="uv pip install 'mlsys[lake]'",
        ) from None
    except Exception as error:  # noqa: BLE001  (the libraries' own errors have no common base)
        raise errors.SourceError.build(
            f"collect: source '{source}'",
            got=" ".join(str(error).split()) or type(error).__name__,
            expected=expected,
            hint=hint,
        ) from None


def _is_number(version: int | str | None) -> bool:
    return version is not None and str(version).isdigit()


def _time(text: str) -> dt.datetime:
    try:
        found = dt.datetime.fromisoformat(text)
    except ValueError:
        raise errors.RecipeError.build(
            "recipe: 'data.reading.version'",
            got=repr(text),
            expected="a version number, a snapshot id, a tag or branch (Iceberg), or a time such as 2024-01-31T10:00Z",
            field="data.reading.version",
        ) from None
    return found if found.tzinfo else found.replace(tzinfo=dt.UTC)


def _path(path: str) -> str:
    """A path as tasks find it that stand in another folder; other URIs stay."""
    return path if "://" in path else str(Path(path).expanduser().absolute())


def _shown(source: str) -> str:
    """What reports call the table: no path of this machine."""
    scheme, _, rest = source.partition("://")
    parts = rest.rstrip("/").split("/")
    return f"{scheme}://{parts[-1] if rest.startswith(('/', '.', '~')) or len(parts) == 1 else rest}"
