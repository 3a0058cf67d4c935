"""Look up the columns of feature tables for rows that come without them.

A row carries every column of a join that the model needs, and they are used as they are; or no column of it, and they
are looked up by the row's keys as of the row's time, null where nothing is known. Some columns of a join are a fault,
and so is a key that is left out. A row without time is of the moment at which it is asked.
"""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from mlsys.features.online.lookup import TOO_EARLY, FeatureSource, PointFeatures, PointQuery
from mlsys.features.online.views import FeatureView, instant
from mlsys.predict.validation import Faults, RequestValidator, Row, Violation, refuse, violation
from mlsys.recipe.forecast import PAST
from mlsys.schema import arrow_type

MAX_PLANS = 1_000
"""Plans that are remembered: clients send few sets of columns, unless they mean harm."""


@dataclass(frozen=True)
class LookupPlan:
    """The views to look up for a row; those of a round can be looked up at once."""

    views: tuple[FeatureView, ...]
    rounds: tuple[tuple[FeatureView, ...], ...]

    @classmethod
    def of(cls, views: Sequence[FeatureView]) -> LookupPlan:
        """Divide views into rounds: one whose key another one gives comes in a later round."""
        rounds: list[tuple[FeatureView, ...]] = []
        given: set[str] = set()
        for view in views:
            if not rounds or any(key.column in given for key in view.keys):
                rounds.append(())
                given = set()
            rounds[-1] += (view,)
            given.update(view.names)
        return cls(tuple(views), tuple(rounds))


NO_LOOKUP = LookupPlan.of(())
"""The plan of a row that carries all columns."""


@dataclass(frozen=True)
class LookupResult:
    """The features that were looked up for some rows.

    Attributes
    ----------
    counts
        Number of rows by join and status, to be read alone; ``given`` is the status of rows that carried the columns.
    features
        Features of each row by name of the join, without the given ones; None where the
        source cannot tell for single rows.
    """

    views: tuple[FeatureView, ...]
    counts: dict[str, Counter[str]]
    features: list[dict[str, PointFeatures]] | None

    def unknown(self) -> list[int] | None:
        """Count for each row the joins of which nothing usable was known."""
        if self.features is None:
            return None
        known = self.features
        return [sum(features.status != "matched" for features in row.values()) if row else 0 for row in known]


class FeatureLookup:
    """The feature tables of a model, and where their columns come from.

    Views are given in the order of the joins; those of which the model needs no column are left out.
    """

    def __init__(self, views: Sequence[FeatureView], contract: RequestValidator, source: FeatureSource) -> None:
        self.source = source
        self.views = tuple(view for view in views if contract.needed.intersection(view.names))
        self.context = {name for view in self.views for name in view.context}
        self.names = {name for view in self.views for name in view.names}
        self._contract = contract
        self.clock = next((view.clock for view in self.views if view.clock), None)
        self._relevant = frozenset(self.names | self.context)
        self._plans: dict[frozenset[str], tuple[LookupPlan, list[Violation]]] = {}
        self._single: dict[tuple[str, ...], dict[str, Counter[str]]] = {}

    def records(
        self, rows: Sequence[Mapping[str, Any]], now: dt.datetime | None = None
    ) -> tuple[list[dict[str, Any]], LookupResult]:
        """Check records and complete them with the columns that they lack.

        Raises
        ------
        RequestError
            Records do not fit, carry part of a join, or have a time before what the store remembers.
        StoreError
            The store cannot be reached, or holds no such table.
        """
        faults = Faults()
        plans = [self.plan(row, number, faults) for number, row in enumerate(rows)]
        refuse(faults)
        features: list[dict[str, PointFeatures]] = [{} for _ in rows]
        if not any(plan.views for plan in plans):
            return self._contract.records(rows), LookupResult(self.views, self._counts(features), features)
        untimed = [self._untimed(row, plan) for row, plan in zip(rows, plans, strict=True)]
        if any(untimed):
            moment = self._moment(now)
            pairs = zip(rows, untimed, strict=True)
            rows = [{**row, str(self.clock): moment} if lacks else row for row, lacks in pairs]
        records = self._contract.records(rows)
        for turn in range(max((len(plan.rounds) for plan in plans), default=0)):
            places = [
                (row, view) for row, plan in enumerate(plans) for some in plan.rounds[turn : turn + 1] for view in some
            ]
            answers = self.source.rows([PointQuery(view, records[row]) for row, view in places])
            for (row, view), answer in zip(places, answers, strict=True):
                features[row][view.name] = answer
                records[row].update(answer.values)
                _check(answer, row, view, faults)
        refuse(faults)
        return records, LookupResult(self.views, self._counts(features), features)

    def columns(self, values: Mapping[str, Any], now: dt.datetime | None = None) -> tuple[pa.Table, LookupResult]:
        """Check and complete columns of one length; errors as for `records`."""
        faults = Faults()
        plan = self.plan(values, "all", faults)
        refuse(faults)
        return self.fill(self._contract.columns(self.timed(values, plan, now)), plan)

    def table(self, table: pa.Table, now: dt.datetime | None = None) -> tuple[pa.Table, LookupResult]:
        """Check and complete a table, whose other columns are ignored; errors as for `records`."""
        faults = Faults()
        plan = self.plan(table.column_names, "all", faults)
        refuse(faults)
        if self._untimed(table.column_names, plan):
            kind = arrow_type(self._contract.schema[str(self.clock)].type)
            table = table.append_column(self.clock, pa.repeat(pa.scalar(self._moment(now), kind), table.num_rows))
        return self.fill(self._contract.table(table), plan)

    def is_given(self, names: Collection[str]) -> bool:
        """Tell whether rows of these columns carry all that is looked up for others."""
        faults = Faults()
        return not self.plan(names, "all", faults).views and not faults

    def plan(self, names: Collection[str], row: Row, faults: Faults) -> LookupPlan:
        """Find the views to look up for a row of these columns; what is missing is added to `faults`."""
        present = self._relevant.intersection(names)
        known = self._plans.get(present)
        if known is None:
            if len(self._plans) == MAX_PLANS:
                self._plans.clear()
            known = self._plans[present] = self._planned(present)
        for fault in known[1]:
            faults.add(row, str(fault["field"]), str(fault["got"]), str(fault["expected"]))
        return known[0]

    def timed(self, values: Mapping[str, Any], plan: LookupPlan, now: dt.datetime | None = None) -> Mapping[str, Any]:
        """Add the moment of asking to columns of one length, if they have no time."""
        if not self._untimed(values, plan):
            return values
        num_rows = max((len(column) for column in values.values()), default=0)
        return {**values, str(self.clock): [self._moment(now)] * num_rows}

    def fill(self, table: pa.Table, plan: LookupPlan) -> tuple[pa.Table, LookupResult]:
        """Add the columns of the views in a plan to a conformed table."""
        faults = Faults()
        counts = {view.name: Counter({} if view in plan.views else {"given": table.num_rows}) for view in self.views}
        features: list[dict[str, PointFeatures]] | None = [{} for _ in range(table.num_rows)]
        for view in plan.views:
            joined = self.source.table(view, table.select(view.context))
            counts[view.name] += joined.counts
            for name in view.names:
                table = _put(table, name, joined.columns[name])
            if joined.features is None:
                features = None
            for row, answer in enumerate(joined.features or ()):
                _check(answer, row, view, faults)
                if features is not None:
                    features[row][view.name] = answer
        refuse(faults)
        return table, LookupResult(self.views, counts, features)

    def _planned(self, names: Collection[str]) -> tuple[LookupPlan, list[Violation]]:
        plan: list[FeatureView] = []
        faults: list[Violation] = []
        present = {*names}
        for view in self.views:
            needed = [name for name in view.names if name in self._contract.needed]
            if present.isdisjoint(view.names):
                plan.append(view)
                expected = f"a key of '{view.name}', null if unknown; or all of {', '.join(needed)}"
                absent = [key.column for key in view.keys if key.column not in present]
                present.update(view.names)  # a later view may have them as keys
            else:
                expected = f"all columns of '{view.name}', or none of them to have them looked up"
                absent = [name for name in needed if name not in present]
            faults += [violation("all", name, "nothing", expected) for name in absent]
        return LookupPlan.of(plan), faults

    def _untimed(self, names: Collection[str], plan: LookupPlan) -> bool:
        """True for rows that are looked up as of now; a forecast is asked for a time, which has to be said."""
        if self.clock is None or self.clock in names:
            return False
        return any(view.clock and view.join.source != PAST for view in plan.views)

    def _moment(self, now: dt.datetime | None) -> dt.date:
        """Give the time of asking in UTC, in the form of the rows' times: with or without zone, or a date."""
        moment = (now or dt.datetime.now(dt.UTC)).astimezone(dt.UTC)
        kind = None if self.clock is None else arrow_type(self._contract.schema[self.clock].type)
        if kind is not None and pa.types.is_date(kind):
            return moment.date()
        return moment if kind is None or kind.tz else moment.replace(tzinfo=None)

    def _counts(self, features: Sequence[Mapping[str, PointFeatures]]) -> dict[str, Counter[str]]:
        """Count the rows by join and status; those of a single row are the same for most requests, and are kept."""
        if len(features) != 1:
            return self._counted(features)
        statuses = tuple([known.status if (known := features[0].get(view.name)) else "given" for view in self.views])
        counts = self._single.get(statuses)
        if counts is None:
            counts = self._single[statuses] = self._counted(features)
        return counts

    def _counted(self, features: Sequence[Mapping[str, PointFeatures]]) -> dict[str, Counter[str]]:
        return {view.name: Counter(row[view.name].status if view.name in row else "given" for row in features)
                for view in self.views}  # fmt: skip


def _put(table: pa.Table, name: str, values: pa.ChunkedArray) -> pa.Table:
    if name not in table.column_names:
        return table.append_column(name, values)
    return table.set_column(table.column_names.index(name), name, values)


def _check(features: PointFeatures, row: int, view: FeatureView, faults: Faults) -> None:
    """Add a fault where a row's time lies before what the store remembers."""
    if features.status == TOO_EARLY and features.since_us is not None:
        since = instant(features.since_us).isoformat()
        expected = f"a time from {since} on, since when '{view.name}' is remembered; or its columns"
        faults.add(row, str(view.clock), "an earlier time", expected)
