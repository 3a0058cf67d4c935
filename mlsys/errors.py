"""The tree of errors that mlsys raises on purpose, and their messages.

Each leaf is also the builtin exception that a Python programmer would catch, so
``except ValueError`` works for someone who has never heard of this module::

    MlsysError
    ├── RecipeError (ValueError)          the recipe cannot be used as it is written
    ├── SourceError (OSError)             a source cannot be found or read
    ├── ContractError (ValueError)        rows do not fit the schema or the contract
    ├── TargetError (ValueError)          the target column cannot be learned from
    ├── LeakageError (ValueError)         a column reveals the target, or parts share rows
    ├── SealedError (PermissionError)     a step asked for rows that it may not see
    ├── FeatureError (ValueError)         a feature specification cannot be built
    ├── BundleError (ValueError)          a bundle is damaged or of another format
    ├── ParityError (ValueError)          a model gives other numbers on another path
    ├── RequestError (ValueError)         a prediction request does not fit the model
    ├── PayloadError (ValueError)         a body cannot be read as a prediction request
    ├── RegistryError (LookupError)       no such model, version or alias
    ├── GateError (ValueError)            a model did not pass its gate
    ├── StoreError (OSError)              the store cannot be read or written
    └── ClusterError (RuntimeError)       Ray cannot be started, reached or given work

A message has up to four parts: *where* (step, object), *got*, *expected* and *hint*
(the repair, as code or a command). Errors travel between processes by pickle, so
``__init__`` takes the finished message alone; other facts are attributes set after.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from typing import Self


def did_you_mean(got: str, known: Iterable[str]) -> str:
    """Suggest the nearest known name, or list the known names.

    >>> did_you_mean("tagret", ["target", "name"])
    "did you mean 'target'?"
    >>> did_you_mean("zzz", ["target", "name"])
    'known: name, target'
    """
    names = sorted(set(known))
    alike = [name for name in names if name.strip().lower() == got.strip().lower()]  # ' Y ' is y to the eye
    near = alike or difflib.get_close_matches(got, names, n=1, cutoff=0.6)
    if near:
        return f"did you mean '{near[0]}'?"
    shown = ", ".join(names[:12]) + (f", … ({len(names)} in all)" if len(names) > 12 else "")
    return f"known: {shown}" if names else "there are none"


_PART = re.compile(r"  (got|expected|hint): +(.*)")


def parts(message: str) -> dict[str, str]:
    r"""Read the parts of a message back: ``where``, ``got``, ``expected`` and ``hint``, those that it has.

    >>> parts("collect: column 'age'\n  got:      text\n  expected: number")
    {'where': "collect: column 'age'", 'got': 'text', 'expected': 'number'}
    """
    first, *lines = message.splitlines() or [""]
    read, last = {"where": first}, "where"
    for line in lines:
        part = _PART.fullmatch(line)
        if part:
            last = part[1]
            read[last] = part[2]
        else:
            read[last] += f"\n{line.strip()}"
    return read


_NAMED_FIELD = re.compile(r"(?:^recipe:|^materialize:|\b(?:columns?|family|key|part|target)) '(.+?)'(?![^\s:,])")


class MlsysError(Exception):
    """Base of all errors raised on purpose; ``str(error)`` is the whole message."""

    field: str | None = None
    """The column, key or object that the error is about, where there is one."""

    @classmethod
    def build(
        cls,
        where: str,
        *,
        got: str | None = None,
        expected: str | None = None,
        hint: str | None = None,
        field: str | None = None,
    ) -> Self:
        """Build the error with a message of up to four parts; `field` defaults to the column or key that `where` names.

        >>> print(ContractError.build("collect: column 'age'", got="text", expected="number"))
        collect: column 'age'
          got:      text
          expected: number
        """
        parts = [("got", got), ("expected", expected), ("hint", hint)]
        lines = [where] + [f"  {word + ':':<9} {text}" for word, text in parts if text is not None]
        error = cls("\n".join(lines))
        quoted = _NAMED_FIELD.search(where)
        error.field = quoted[1] if field is None and quoted else field
        return error

    def reworded(self, *replacements: tuple[str, str]) -> Self:
        """The same error in other words, by pairs of a regular expression and its replacement.

        >>> print(SourceError.build("collect: source 'a.csv'", got="no rows").reworded(("^collect:", "predict:")))
        predict: source 'a.csv'
          got:      no rows
        """
        text = str(self)
        for pattern, replacement in replacements:
            text = re.sub(pattern, replacement, text)
        error = type(self)(text)
        error.__dict__.update(self.__dict__)
        return error


class RecipeError(MlsysError, ValueError):
    """The recipe cannot be used as the user wrote it."""

    @classmethod
    def unknown_key(cls, path: str, key: str, known: Iterable[str]) -> Self:
        return cls.build(
            f"recipe: unknown key '{path}'", got=key, expected="a key of the recipe", hint=did_you_mean(key, known)
        )

    @classmethod
    def unknown_column(cls, where: str, column: str, known: Iterable[str]) -> Self:
        expected = "a column of the table"
        hint = did_you_mean(column, known)
        return cls.build(
            f"{where}: no column '{column}' in the table", got=column, expected=expected, hint=hint, field=column
        )

    @classmethod
    def no_effect(cls, column: str, operation: str, option: str, known: Iterable[str]) -> Self:
        """The operation of a column does not have the option."""
        names = list(known)
        where = f"recipe: features.columns '{column}'"
        expected = f"an option of {operation}" if names else f"no options: {operation} has none"
        hint = did_you_mean(option, names) if names else f"{column}: {operation}"
        return cls.build(where, got=f"{option}, which has no effect on {operation}", expected=expected, hint=hint)


class SourceError(MlsysError, OSError):
    """A source cannot be found or read."""

    @classmethod
    def missing(cls, source: str, near: Iterable[str] = ()) -> Self:
        names, hint = list(near), "check the path; it is relative to the current folder"
        if names:
            hint = did_you_mean(source.rsplit("/", 1)[-1], names)
        where = f"collect: source '{source}'"
        return cls.build(where, got="nothing there", expected="a file, a folder or a glob that matches", hint=hint)

    @classmethod
    def no_data(cls, folder: str, names: Iterable[str]) -> Self:
        """The folder holds no file that can be read as data."""
        shown = sorted(names)
        there = ", ".join(shown[:5]) + (f" and {len(shown) - 5:,} more" if len(shown) > 5 else "")
        got = f"a folder with {there}" if shown else "an empty folder"
        expected = "files whose names end in .csv, .parquet, .jsonl, .txt, .png or .jpg"
        hint = "set data.reading.format for all files; hidden files and names that begin with _ are left out"
        return cls.build(f"collect: source '{folder}'", got=got, expected=expected, hint=hint if shown else None)

    @classmethod
    def empty(cls, source: str) -> Self:
        return cls.build(f"collect: source '{source}'", got="no rows", expected="at least one row")

    @classmethod
    def damaged(cls, source: str, got: str) -> Self:
        where = f"collect: source '{source}'"
        hint = "fetch the file again, or leave it out of the source"
        return cls.build(where, got=" ".join(got.split()), expected="a complete file of its format", hint=hint)

    @classmethod
    def encoding(cls, source: str, encoding: str, byte: int, offset: int, line: int) -> Self:
        other = "utf-16" if offset == 0 and byte in {0xFE, 0xFF} else "latin-1"
        again = "utf-8" if encoding.lower().replace("_", "-") not in {"utf-8", "utf8"} else other
        where = f"collect: source '{source}', line {line}"
        hint = f"data.reading.encoding: {again}; if lines differ in encoding, write the file again in one"
        return cls.build(where, got=f"byte 0x{byte:02x} at offset {offset}", expected=f"text in {encoding}", hint=hint)

    @classmethod
    def no_room(cls, source: str, error: OSError, num_bytes: int, folder: str) -> Self:
        """The temporary folder does not take the bytes of a file."""
        got, hint = f"{error.strerror or error} after {num_bytes:,} bytes", "set TMPDIR to a folder on a larger disk"
        expected = f"room for the file below {folder}"
        return cls.build(f"collect: source '{source}'", got=got, expected=expected, hint=hint)

    @classmethod
    def no_header(cls, source: str, line: int) -> Self:
        """The line or row that the recipe states for the names is not there, or holds none."""
        key = "data.reading.header_line"
        where, hint = f"collect: source '{source}'", f"correct {key}; without it the header is found"
        expected = "the line or row that holds the names of the columns"
        return cls.build(where, got=f"{key}: {line}, and no name there", expected=expected, hint=hint, field=key)

    @classmethod
    def several(cls, names: Iterable[str], num_files: int, first: str) -> Self:
        """Several files of a source cannot be read; `first` is the message of the first."""
        shown = list(names)
        more = f" and {len(shown) - 10} more" if len(shown) > 10 else ""
        where = f"collect: {len(shown)} of {num_files} files cannot be read"
        expected = "at most data.max_bad_fraction of the files and of the bytes"
        hint = f"fetch them again or leave them out; the first error: {' '.join(first.split())}"
        return cls.build(where, got=", ".join(f"'{name}'" for name in shown[:10]) + more, expected=expected, hint=hint)

    @classmethod
    def stray_quote(cls, source: str, line: int) -> Self:
        where = f"collect: source '{source}', line {line}"
        got = 'a " that opens a cell and is not closed before the next delimiter or line end'
        hint = "correct the line; the cells after it cannot be separated with certainty"
        return cls.build(where, got=got, expected='cells in pairs of ", with "" for a " inside', hint=hint)

    @classmethod
    def duplicate_columns(cls, source: str, names: Iterable[str]) -> Self:
        where = f"collect: source '{source}'"
        got = "columns that appear more than once: " + ", ".join(names)
        return cls.build(where, got=got, expected="a different name for each column", hint="rename them in the source")

    @classmethod
    def changed_type(cls, column: str, types: Iterable[tuple[str, str]]) -> Self:
        """The type of a column differs between files; `types` pairs a type with the first fragment that has it."""
        got = "; ".join(f"{kind} in '{fragment}'" for kind, fragment in types)
        hint = "write the files again with one type, or leave out the one that differs"
        return cls.build(f"collect: column '{column}'", got=got, expected="one type in all files", hint=hint)


class ContractError(MlsysError, ValueError):
    """Rows do not fit the schema or the contract."""

    @classmethod
    def too_many(
        cls, bad: int, total: int, allowed: float, rules: Iterable[tuple[str, int, str]], quarantine: str
    ) -> Self:
        """Too many rows are rejected; `rules` holds each rule's text, number of rows and a sample."""
        worst = sorted(rules, key=lambda rule: -rule[1])
        shown = "; ".join(f"{count} × {rule} (e.g. {sample})" for rule, count, sample in worst[:5])
        more = f"; and {len(worst) - 5} more rules" if len(worst) > 5 else ""
        where = f"collect: {bad} of {total} rows do not fit the schema"
        expected = f"at most {allowed:.2%} of the rows (data.max_bad_fraction)" if bad < total else "rows that fit"
        hint = f"look at {quarantine}; correct the source, set data.kinds, or raise data.max_bad_fraction"
        return cls.build(where, got=f"{shown}{more}", expected=expected, hint=hint)

    @classmethod
    def evolved(cls, changes: Iterable[str], column: str) -> Self:
        """The columns are not those of the last collection."""
        where = "collect: columns changed since the last collection"
        expected = "the same columns, new columns or wider types"
        hint = "correct the source; to accept the change once: --set data.evolution=accept"
        return cls.build(where, got="; ".join(changes), expected=expected, hint=hint, field=column)

    @classmethod
    def unusual_volume(cls, rows: int, usual: float, runs: int, z: float) -> Self:
        expected = f"about {usual:,.0f}, as in {runs} earlier collections (modified z {z:+.1f}, at most 3.5)"
        hint = "look at the source; to accept it once: --set data.volume=warn"
        return cls.build("collect: volume", got=f"{rows:,} rows", expected=expected, hint=hint, field="data.volume")

    @classmethod
    def stale(cls, column: str, newest: str, age: str, limit: str) -> Self:
        where = f"collect: column '{column}'"
        got = f"the newest value {newest}, {age} old"
        hint = "find out why the source is late, or raise data.freshness"
        return cls.build(where, got=got, expected=f"at most {limit} (data.freshness)", hint=hint)

    @classmethod
    def too_many_of(
        cls, rule: str, bad: int, total: int, allowed: float, samples: Iterable[str], quarantine: str
    ) -> Self:
        """Too many rows break one rule that has a limit of its own."""
        where = f"collect: {rule}"
        got = f"{bad} of {total} rows break it, e.g. {'; '.join(samples)}"
        hint = f"look at {quarantine}; correct the source, or raise the rule's max_fraction"
        return cls.build(where, got=got, expected=f"at most {allowed:.2%} of the rows (its max_fraction)", hint=hint)


class TargetError(MlsysError, ValueError):
    """The target column cannot be learned from."""

    @classmethod
    def single_class(cls, target: str, value: object, num_rows: int) -> Self:
        got = f"one class only: {value!r} in all {num_rows} rows"
        hint = "check the label expression, or name another target"
        return cls.build(f"collect: target '{target}'", got=got, expected="at least two classes", hint=hint)

    @classmethod
    def all_null(cls, target: str, num_rows: int) -> Self:
        where = f"collect: target '{target}'"
        got = f"no value in any of {num_rows} rows"
        hint = "check the label expression and data.reading.null_values, or name another target"
        return cls.build(where, got=got, expected="a value in the rows to learn from", hint=hint)


class LeakageError(MlsysError, ValueError):
    """A column reveals the target, or training and test share rows."""


class SealedError(MlsysError, PermissionError):
    """A step asked for rows that it may not see."""

    @classmethod
    def part(cls, part: str, open_parts: Iterable[str]) -> Self:
        where = f"dataset: part '{part}' is sealed here"
        expected = "one of " + ", ".join(sorted(open_parts))
        return cls.build(where, got=part, expected=expected, hint="test rows are opened once, by evaluate")


class FeatureError(MlsysError, ValueError):
    """A feature specification cannot be built or applied."""


class BundleError(MlsysError, ValueError):
    """A bundle is damaged or of another format."""


class ParityError(MlsysError, ValueError):
    """The same rows give other predictions by another path than training's: batch or HTTP."""


class RequestError(MlsysError, ValueError):
    """A prediction request does not fit the model's schema.

    `violations` holds one mapping per fault with the keys ``row``, ``field``,
    ``got`` and ``expected``.
    """

    violations: list[dict[str, object]]

    @classmethod
    def of(cls, violations: list[dict[str, object]], count: int | None = None) -> Self:
        """The rows do not fit; `count` is the number of all faults, if `violations` lists only the first."""
        shown = "; ".join(
            f"row {v['row']}, field '{v['field']}': got {v['got']}, expected {v['expected']}" for v in violations[:5]
        )
        total = len(violations) if count is None else count
        more = f"; and {total - 5:,} more" if total > 5 else ""
        error = cls(f"request does not fit the model: {shown}{more}")
        error.violations = violations
        return error

    @classmethod
    def unexplained(cls, model: str, got: str, expected: str) -> Self:
        """Contributions were asked for of a model that has no exact ones."""
        error = cls.build(
            f"explain: {model}", got=got, expected=expected, hint="leave explain out", field="params.explain"
        )
        error.violations = [{"row": "all", "field": "params.explain", "got": got, "expected": expected}]
        return error


class PayloadError(MlsysError, ValueError):
    """A body cannot be read as a prediction request.

    `reason` is one of ``malformed``, ``content_type``, ``too_large``, ``too_slow`` and ``too_late``.
    """

    reason: str = "malformed"

    @classmethod
    def _because(cls, reason: str, where: str, **parts: str) -> Self:
        error = cls.build(where, **parts)
        error.reason = reason
        return error

    @classmethod
    def not_json(cls, got: str) -> Self:
        return cls.build("request: body", got=got, expected="a JSON object in UTF-8")

    @classmethod
    def not_arrow(cls, got: str) -> Self:
        return cls.build("request: body", got=got, expected="a table as an Arrow IPC stream")

    @classmethod
    def form(cls, got: Iterable[str], forms: Iterable[str]) -> Self:
        keys = ", ".join(got) or "no keys"
        return cls.build("request: body", got=keys, expected="exactly one of " + ", ".join(forms))

    @classmethod
    def content_type(cls, got: str) -> Self:
        hint = "curl -H 'Content-Type: application/json'"
        if "csv" in got.lower():
            hint = "send the rows as dataframe_split; POST /NAME/batch and `mlsys predict` read CSV files"
        where = "request: header Content-Type"
        return cls._because("content_type", where, got=got, expected="application/json in UTF-8", hint=hint)

    @classmethod
    def header(cls, name: str, got: str, expected: str) -> Self:
        return cls.build(f"request: header {name}", got=got, expected=expected)

    @classmethod
    def encoding(cls, got: str, known: Iterable[str]) -> Self:
        """The body is packed in a way that nobody here unpacks."""
        expected = f"{', '.join(known)}, or no such header"
        return cls._because("content_type", "request: header Content-Encoding", got=got, expected=expected)

    @classmethod
    def unpacking(cls, encoding: str) -> Self:
        """The body is not packed as its header says."""
        expected = "the whole body, packed as the header says"
        return cls.build("request: body", got=f"bytes that are no {encoding}", expected=expected)

    @classmethod
    def too_large(cls, limit_bytes: int) -> Self:
        return cls.too_many("a larger body", f"{limit_bytes:,} bytes", "body_bytes")

    @classmethod
    def too_many(cls, got: str, limit: str, key: str) -> Self:
        """The request has more of something than ``deploy.limits.<key>`` allows."""
        hint = f"send fewer rows, use `mlsys predict` for files, or raise deploy.limits.{key}"
        return cls._because("too_large", "request: body", got=got, expected=f"at most {limit}", hint=hint)

    @classmethod
    def too_slow(cls, seconds: float) -> Self:
        expected = f"the whole body within {seconds:g} s"
        return cls._because("too_slow", "request: body", got="a part of it", expected=expected)

    @classmethod
    def too_late(cls) -> Self:
        """The time of the client is over, and nothing was done for the request."""
        where = "request: header X-Request-Timeout-Ms"
        return cls._because("too_late", where, got="a time that is over", expected="an answer within it")


class RegistryError(MlsysError, LookupError):
    """No such model, version or alias."""


class GateError(MlsysError, ValueError):
    """A model did not pass its gate."""


class StoreError(MlsysError, OSError):
    """The store cannot be read or written."""


class ClusterError(MlsysError, RuntimeError):
    """Ray cannot be started, reached or given work."""
