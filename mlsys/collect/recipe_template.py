"""Write a recipe for a table that nobody has seen (`mlsys init`); it runs as it is.

The table is surveyed as a run would collect it (`survey`), and `proposals` say what its columns are for. What a run
needs is set, what a person has to decide stands in a comment, each with its reason.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import yaml

from mlsys import errors
from mlsys.collect import forecast_template, proposals, survey
from mlsys.collect.forecast_template import ForecastDraft
from mlsys.collect.proposals import Proposals
from mlsys.collect.survey import Survey
from mlsys.recipe import Reading, ReadOptions, override
from mlsys.schema import Kind
from mlsys.store import write_atomic

MOST_LISTED, MOST_ALIKE = 30, 3
"""Columns with a line of their own, of all and of one reason; more are told in a number."""


GENERAL_NAME = re.compile(r"(?i)train(ing)?|test|data(set)?|table|rows|file|export|part[-_]?\d*|\*|")


@dataclass(frozen=True)
class Draft:
    """The text of a recipe, its name, and sentences about what was seen and chosen."""

    name: str
    text: str
    messages: tuple[str, ...]


def draft(
    source: str,
    target: str | None = None,
    name: str | None = None,
    *,
    settings: Sequence[str] = (),
    forecast: str | None = None,
    progress: Callable[[str], None] = lambda _: None,
    seconds: float = survey.SECONDS,
) -> Draft:
    """Draft a recipe for a source; without a `target` one is proposed.

    `settings` say how the source is read, such as ``reading.query=SELECT …`` or ``timezone=Europe/Berlin``; `forecast`
    is how far ahead the target is to be forecast, if that is what is asked for.

    Raises
    ------
    SourceError
        The source is missing, empty or damaged, or no table.
    RecipeError
        It has no column of the target's name.
    TargetError
        No column can be predicted.
    """
    options = override(ReadOptions(), settings) if settings else None
    seen = survey.take(source, options, seconds=seconds, progress=progress)
    if len(seen.schema) < 2:
        hint = "look at reading.delimiter, and at the source"
        got = f"one column, '{seen.schema.names[0]}'"
        raise errors.SourceError.build(f"init: '{source}'", got=got, expected="a target and features", hint=hint)
    if target is not None and target not in seen.schema.names:
        raise errors.RecipeError.unknown_column("init", target, seen.schema.names)
    proposed = proposals.propose(seen, target)
    named = name or name_of(source)
    ahead = None if forecast is None else forecast_template.propose(seen, proposed, forecast)
    messages = [*_messages(seen, proposed), *([f"series of the forecast: {ahead.reason}"] if ahead else [])]
    return Draft(named, _text(seen, proposed, named, options, ahead), tuple(messages))


def write(source: str, target: str | None = None, name: str | None = None, forecast: str | None = None) -> str:
    """Write the text of a recipe for a source; raises as `draft`."""
    return draft(source, target, name, forecast=forecast).text


def save(text: str, path: Path) -> None:
    """Write a recipe into a new file.

    Raises
    ------
    RecipeError
        There is a file already.
    """
    if path.exists():
        raise errors.RecipeError.build(
            f"init: '{path}'", got="a file is there", expected="a new file", hint="name another with --output"
        )
    write_atomic(path, text.encode())


def _text(
    seen: Survey, proposed: Proposals, name: str, options: ReadOptions | None, ahead: ForecastDraft | None = None
) -> str:
    others = f"; else perhaps: {', '.join(proposed.alternatives)}" if proposed.alternatives else ""
    lines = [
        f"# Drafted from {seen.seen} of {seen.source}.",
        "# Every key that is left out has a default; `mlsys run` writes them all into resolved.yaml.",
        f"name: {name}",
        f"target: {_plain(proposed.target)}  # {proposed.target_reason}{others}",
        f"task: auto                # {proposed.task_words}",
        "data:",
        f"  source: {_plain(seen.source)}",
        *_files(seen),
        *_reading(seen.reading),
        *([f"  timezone: {_plain(options.timezone)}"] if options and options.timezone != "UTC" else []),
        *([f"  id: {_plain(proposed.id)}           # a value of its own in every row"] if proposed.id else []),
        *_listed("ignore", proposed.ignore),
        *_listed("known_after", proposed.known_after),
        *_suspects(proposed),
        *(
            _times(proposed)
            if ahead is None
            else [f"  time: {_plain(ahead.time)}           # the time that is forecast"]
        ),
        *_group(proposed),
        "  # derive: {}             # new columns as SQL, e.g. {late: delay > 15}",
        *_kinds(seen),
        *(f"  # {_plain(column)}: {remark}; it is a feature" for column, remark in proposed.remarks.items()),
    ]
    return "\n".join([*lines, *_forecast(ahead)]) + "\n"


def _forecast(ahead: ForecastDraft | None) -> list[str]:
    if ahead is None:
        return []
    series = f"  series: {_plain(list(ahead.series))}  # {ahead.reason}"
    return ["forecast:", f"  horizon: {_plain(ahead.horizon)}", series]


def _messages(seen: Survey, proposed: Proposals) -> list[str]:
    """Sentences for the console: what was read, and every decision with its reason."""
    others = f" (others: {', '.join(proposed.alternatives)}; --target names one)" if proposed.alternatives else ""
    lines = [f"looked at {seen.seen} of {seen.source}", *seen.notes]
    lines += [f"left out: '{name}', {reason}" for name, reason in seen.left_out.items()]
    lines.append(f"target '{proposed.target}': {proposed.target_reason}{others}; {proposed.task_words}")
    lines += [f"id '{proposed.id}': a value of its own in every row"] if proposed.id else []
    lines += _sentences("ignored", proposed.ignore)
    lines += _sentences("known after the event", proposed.known_after)
    lines += _sentences("to be checked", proposed.suspects)
    empty = [name for name, rows in seen.nulls.items() if rows == seen.num_rows]
    if not {*seen.schema.names} - {proposed.target, proposed.id, *proposed.ignore, *proposed.known_after, *empty}:
        lines.append("no column is left to learn from: mlsys run will stop at features until there is one")
    comments = (("time", proposed.time), ("group", proposed.group))
    return [*lines, *(f"{key} '{column[0]}', in a comment: {column[1]}" for key, column in comments if column)]


def _sentences(what: str, reasons: dict[str, str]) -> list[str]:
    """A sentence for each column, or for all of one reason where they are many."""
    lines = []
    for reason in dict.fromkeys(reasons.values()):
        names = [name for name, why in reasons.items() if why == reason]
        if len(names) <= MOST_ALIKE:
            lines += [f"{what} '{name}': {reason}" for name in names]
        else:
            lines.append(f"{what} {len(names):,} columns ({', '.join(names[:MOST_ALIKE])}, …): {reason}")
    more = [f"{what}: {len(lines) - MOST_LISTED:,} more"] if len(lines) > MOST_LISTED else []
    return [*lines[:MOST_LISTED], *more]


def _files(seen: Survey) -> list[str]:
    """A word about files that are read as one table although their names say train and test."""
    words = {word for name in seen.names for word in re.findall(r"train|test|valid|holdout", name.lower())}
    lines = [f"  # left out: {name} ({reason})" for name, reason in seen.left_out.items()]
    if len(words) > 1 and len(seen.names) > 1:
        lines.append(f"  # {', '.join(seen.names[:4])} are read as one table, which is divided anew;")
        lines.append("  # to keep a file for `mlsys predict`, name the others as the source")
    return lines


def _reading(reading: Reading) -> list[str]:
    """Lines for all that is not read by default."""
    default = Reading().model_dump(mode="json")
    values = {key: value for key, value in reading.model_dump(mode="json").items() if value != default.get(key)}
    notes = {"encoding": "      # the file is not UTF-8: check that accents come out right"}
    lines = [f"    {key}: {_plain(value)}{notes.get(key, '')}" for key, value in values.items()]
    return ["  reading:", *lines] if lines else []


def _listed(key: str, reasons: dict[str, str]) -> list[str]:
    """A list of columns, each with its reason; of very many, on one line with the most frequent reason."""
    if not reasons:
        return []
    if len(reasons) > MOST_LISTED:
        return [f"  {key}: {_plain(list(reasons))}"]
    return [f"  {key}:", *(f"  - {_plain(name)}  # {reason}" for name, reason in reasons.items())]


def _suspects(proposed: Proposals) -> list[str]:
    if not proposed.suspects:
        note = "columns known only after the moment of prediction: they never become features"
        return [] if proposed.known_after else [f"  # known_after: []        # {note}"]
    lines = (
        []
        if proposed.known_after
        else ["  # known_after:          # columns known only after the moment of prediction"]
    )
    return [*lines, *(f"  # - {_plain(name)}  # {why}" for name, why in list(proposed.suspects.items())[:MOST_LISTED])]


def _times(proposed: Proposals) -> list[str]:
    if not proposed.time:
        return []
    name, reason = proposed.time
    return [
        f"  # {_plain(name)}: {reason}. If the prediction is made at that time:",
        f"  # time: {_plain(name)}     # and, beside data:  split: {{by: time}}",
    ]


def _group(proposed: Proposals) -> list[str]:
    if not proposed.group:
        return []
    name, reason = proposed.group
    return [f"  # {_plain(name)}: {reason}. To keep them in one part:", f"  # group: {_plain(name)}"]


def _kinds(seen: Survey) -> list[str]:
    """Lines for texts that are times, and for those that are taken for prose."""
    prose = [column.name for column in seen.schema if column.kind is Kind.TEXT]
    lines = []
    if seen.written:
        kinds = {name: kind.value for name, kind in seen.written.items()}
        lines.append(f"  kinds: {_plain(kinds)}  # written as texts")
    elif prose:
        hint = "taken for text; this would make them categories"
        lines.append(f"  # kinds: {_plain(dict.fromkeys(prose, 'categorical'))}  # {hint}")
    return lines


def name_of(source: str) -> str:
    """The name of the file, or of its folder where the file's says nothing, as a name of a model may be."""
    path = PurePosixPath(source.rstrip("/").rsplit("://", 1)[-1])
    stem = path.name.partition(".")[0]
    if GENERAL_NAME.fullmatch(stem) and re.search("[A-Za-z]", path.parent.name):
        stem = path.parent.name
    plain = re.sub(r"[^a-z0-9_]+", "-", stem.lower()).strip("-_")
    return (plain if plain[:1].isalpha() else f"table-{plain}".rstrip("-"))[:63]


def _plain(value: object) -> str:
    text = yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=10**9, sort_keys=False)
    return text.removesuffix("...\n").strip()
