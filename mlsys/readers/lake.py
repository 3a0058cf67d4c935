"""Delta and Iceberg tables: one fragment a data file, of a stated version (extra ``lake``).

``delta://path/to/table``, ``delta+s3://bucket/table``
    A Delta table; ``reading.version`` is a version number or a time.
``iceberg://catalog/namespace.table``
    A table of a catalog that ``.pyiceberg.yaml`` or ``PYICEBERG_CATALOG__…`` describes;
    ``reading.version`` is a snapshot id, a time, a tag or a branch.
``iceberg:///path/to/v3.metadata.json``
    An Iceberg table without a catalog.

Both are asked for their own schema, so a column that was added later is null in older files. Data files never change,
which is why they are known by their names, sizes and schema: of a new version only the files that are new are read.
"""

from __future__ import annotations

import datetime as dt
from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pyarrow as pa

from mlsys import errors
from mlsys.readers import files
from mlsys.readers.base import BadRecord, Batch, Fragment, Growth, Reader, checked_names, typed_batches
from mlsys.recipe import Reading
from mlsys.store import digest_json

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
"""Messages about a table, a version and a file: what is expected, and the hint."""


class LakeReader(Reader):
    """Data files of a table at a version, older ones first, under the schema of the table."""

    options = ("version",)

    def fragments(self, source: str, reading: Reading) -> list[Fragment]:
        """The data files of a table; `SourceError` without the extra, or if there is no such table or version."""
        with _library_errors(source, *(A_TABLE if reading.version is None else A_VERSION)):
            listed = self.data_files(_shown(source), absolute_table(source), reading.version)
        if not listed:
            raise errors.SourceError.empty(source)
        return listed

    def schema(self, fragment: Fragment) -> tuple[pa.Schema, int] | None:
        with _library_errors(fragment.name, *A_FILE):
            schema, num_rows = self.shape(fragment)
        checked_names(fragment, schema.names)
        return schema.remove_metadata(), num_rows

    def batches(
        self, fragment: Fragment, reading: Reading, bad_records: list[BadRecord], growth: Growth | None = None
    ) -> Iterator[Batch]:
        schema, _ = self.shape(fragment)
        with _library_errors(fragment.name, *A_FILE):
            tables = (pa.Table.from_batches([batch]).cast(schema) for batch in self.record_batches(fragment))
            yield from typed_batches(fragment, tables, schema)

    @abstractmethod
    def data_files(self, name: str, source: str, version: int | str | None) -> list[Fragment]:
        """The data files of a table at a version, older ones first."""

    @abstractmethod
    def shape(self, fragment: Fragment) -> tuple[pa.Schema, int]:
        """Schema of the table, and rows of the file."""

    @abstractmethod
    def record_batches(self, fragment: Fragment) -> Iterator[pa.RecordBatch]:
        """Rows of one data file."""


class DeltaReader(LakeReader):
    """A Delta table by its folder or URI."""

    format = "delta"

    def matches(self, source: str) -> bool:
        return files.scheme(source).startswith("delta")

    def data_files(self, name: str, source: str, version: int | str | None) -> list[Fragment]:
        table = _delta_table(source, version)
        actions = pa.table(table.get_add_actions(flatten=True)).to_pylist()
        layout = str(table.schema().to_json())
        return [
            Fragment(
                f"{name}/{file['path']}",
                f"{source}#{file['path']}",
                self.format,
                file["size_bytes"],
                identity=digest_json([str(table.metadata().id), file["path"], file["size_bytes"], layout]),
                version=str(table.version()),
            )
            for file in sorted(actions, key=lambda file: (file["modification_time"], file["path"]))
        ]

    def shape(self, fragment: Fragment) -> tuple[pa.Schema, int]:
        dataset, member = _delta_fragment(fragment)
        return dataset.schema, member.count_rows()

    def record_batches(self, fragment: Fragment) -> Iterator[pa.RecordBatch]:
        dataset, member = _delta_fragment(fragment)
        yield from member.to_batches(schema=dataset.schema)


class IcebergReader(LakeReader):
    """An Iceberg table of a catalog, or by its metadata file."""

    format = "iceberg"
    schemes = ("iceberg",)

    def data_files(self, name: str, source: str, version: int | str | None) -> list[Fragment]:
        table = _iceberg_table(source)
        snapshot = _iceberg_snapshot(name, table, version)
        scan = table.scan(snapshot_id=snapshot.snapshot_id)
        entries = table.inspect.entries(snapshot.snapshot_id).to_pylist()
        order = {entry["data_file"]["file_path"]: entry["sequence_number"] or 0 for entry in entries}
        fragments = []
        for task in sorted(
            scan.plan_files(), key=lambda task: (order.get(task.file.file_path, 0), task.file.file_path)
        ):
            path, num_bytes = task.file.file_path, task.file.file_size_in_bytes
            deleted = sorted(deleted.file_path for deleted in task.delete_files)
            identity = digest_json([str(table.metadata.table_uuid), path, num_bytes, deleted, str(scan.projection())])
            shown, version = f"{name}/{path.rpartition('/')[2]}", str(snapshot.snapshot_id)
            location = f"{source}#{path}"
            fragments.append(Fragment(shown, location, self.format, num_bytes, identity=identity, version=version))
        return fragments

    def shape(self, fragment: Fragment) -> tuple[pa.Schema, int]:
        from pyiceberg.io.pyarrow import schema_to_pyarrow

        scan, task = _iceberg_task(fragment)
        counted = sum(batch.num_rows for batch in self.record_batches(fragment)) if task.delete_files else None
        num_rows = task.file.record_count if counted is None else counted
        return schema_to_pyarrow(scan.projection(), include_field_ids=False), num_rows

    def record_batches(self, fragment: Fragment) -> Iterator[pa.RecordBatch]:
        from pyiceberg.io.pyarrow import ArrowScan

        scan, task = _iceberg_task(fragment)
        arrow = ArrowScan(scan.table_metadata, scan.io, scan.projection(), scan.row_filter, scan.case_sensitive)
        yield from arrow.to_record_batches([task])


def absolute_table(source: str) -> str:
    """The URI of a table in a local folder by its absolute path, for a task that stands in another folder."""
    scheme, _, rest = source.partition("://")
    is_path = scheme == "delta" or rest.endswith(".metadata.json")
    return f"{scheme}://{Path(rest).expanduser().absolute()}" if is_path and "://" not in rest else source


def _delta_fragment(fragment: Fragment) -> tuple[Any, Any]:
    uri, _, member = fragment.location.partition("#")
    dataset = _delta_dataset(uri, str(fragment.version))
    paths = {member, unquote(member)}  # the log of a table quotes paths, as in p=a%2520b for the folder p=a%20b
    return dataset, next(member for member in dataset.get_fragments() if member.path in paths)


def _iceberg_task(fragment: Fragment) -> tuple[Any, Any]:
    uri, _, member = fragment.location.partition("#")
    scan = _iceberg_scan(uri, str(fragment.version))
    return scan, next(task for task in scan.plan_files() if task.file.file_path == member)


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


def _iceberg_table(source: str) -> Any:
    rest = source.removeprefix("iceberg://")
    if rest.endswith(".metadata.json"):
        from pyiceberg.table import StaticTable

        return StaticTable.from_metadata(f"file://{rest}")
    from pyiceberg.catalog import load_catalog
    from pyiceberg.utils.config import Config

    catalog, _, name = rest.partition("/")
    # load_catalog knows the settings of when it was imported
    stated: dict[str, Any] = Config().get_catalog_config(catalog) or {}
    with load_catalog(catalog, **stated) as opened:
        return opened.load_table(name)


def _iceberg_snapshot(source: str, table: Any, version: int | str | None) -> Any:
    if version is None:
        snapshot = table.current_snapshot()
    elif _is_number(version):
        snapshot = table.snapshot_by_id(int(version))
    else:
        snapshot = table.snapshot_by_name(str(version))
        if snapshot is None:
            snapshot = table.snapshot_as_of_timestamp(int(_time(str(version)).timestamp() * 1000))
    if snapshot is None:
        known = ", ".join(str(known.snapshot_id) for known in table.snapshots()[-5:])
        got = "no snapshot" if version is None else f"no snapshot {version}"
        expected = f"one of {known}" if known else "a table with rows"
        hint = "reading: {version: …} names a snapshot id, a time, a tag or a branch"
        raise errors.SourceError.build(f"collect: source '{source}'", got=got, expected=expected, hint=hint)
    return snapshot


@lru_cache(maxsize=4)
def _iceberg_scan(source: str, version: str) -> Any:
    return _iceberg_table(source).scan(snapshot_id=int(version))


@contextmanager
def _library_errors(source: str, expected: str, hint: str) -> Iterator[None]:
    """Turn an error of the table's library into one of ours."""
    try:
        yield
    except errors.MlsysError:
        raise
    except ImportError as error:
        where = f"collect: source '{source}'"
        got = f"no package '{error.name}' in this environment"
        raise errors.SourceError.build(
            where, got=got, expected="the extra for Delta and Iceberg tables", hint="uv pip install 'mlsys[lake]'"
        ) from None
    except Exception as error:  # noqa: BLE001  (the libraries' own errors have no common base)
        got = " ".join(str(error).split()) or type(error).__name__
        raise errors.SourceError.build(f"collect: source '{source}'", got=got, expected=expected, hint=hint) from None


def _is_number(version: int | str | None) -> bool:
    return version is not None and str(version).isdigit()


def _time(text: str) -> dt.datetime:
    try:
        time = dt.datetime.fromisoformat(text)
    except ValueError:
        where = "recipe: 'data.reading.version'"
        expected = "a version number, a snapshot id, a tag or branch (Iceberg), or a time such as 2024-01-31T10:00Z"
        raise errors.RecipeError.build(where, got=repr(text), expected=expected, field="data.reading.version") from None
    return time if time.tzinfo else time.replace(tzinfo=dt.UTC)


def _shown(source: str) -> str:
    """Name of the table in reports: no path of this machine."""
    scheme, _, rest = source.partition("://")
    parts = rest.rstrip("/").split("/")
    return f"{scheme}://{parts[-1] if rest.startswith(('/', '.', '~')) or len(parts) == 1 else rest}"
