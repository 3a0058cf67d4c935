"""A year of weekly maintenance: drift is answered with a new model, a broken feed and missing labels are not."""

from __future__ import annotations

import datetime as dt
import re
import shutil
import subprocess
import sys
import time

import pytest

from mlsys import errors, locks, registry
from mlsys.alerts import alert_book
from mlsys.recipe import parse
from mlsys.registry import canaries, ledger
from mlsys.registry.canaries import TrialPlan
from mlsys.store import Store
from mlsys.workflow import Run, maintenance, maintenance_feed, maintenance_state
from mlsys.workflow.maintenance_state import MaintenanceState
from shop import DRIFT, FIRST, RECIPE, WEEK, YEAR, Shop


def test_a_year_of_weeks(tmp_path):
    """The world changes in week 20; the feed is broken then, and labels do not come from week 36 to 39."""
    shop, done = Shop(tmp_path).begin(), {}
    while shop.week < YEAR:
        week = shop.week
        shop.live(labelled=not 36 <= week < 40, num_cut=30 if week == DRIFT + 1 else 0)
        done[week] = shop.maintain()
    outcomes = [result.outcome for result in done.values()]
    assert outcomes[:9] == ["kept"] * 9
    assert done[DRIFT + 1].outcome == "refused"
    assert "in quarantine" in done[DRIFT + 1].reason
    assert outcomes.count("promoted") == 1
    promoted = next(week for week, result in done.items() if result.outcome == "promoted")
    assert DRIFT + 1 < promoted <= DRIFT + 6
    assert {result.outcome for week, result in done.items() if week > promoted} == {"kept"}
    assert shop.lines() == [f"{result.outcome}: {result.reason}" for result in done.values()]
    for kind in ("retrain", "feed"):
        assert [event for what, event in shop.alerts() if what == kind] == ["raised", "recovered"]
    assert not [alert for alert in alert_book.read(shop.store, "shop").open() if alert.kind != "watch"]


@pytest.fixture(scope="module")
def before(tmp_path_factory):
    """A shop whose model has to be made again: its world has changed for four weeks."""
    shop = Shop(tmp_path_factory.mktemp("shop")).begin()
    while shop.week < DRIFT + 4:
        shop.live()
    return shop


@pytest.fixture
def shop(before, tmp_path):
    """A copy of it, for a test of its own."""
    return before.copy(tmp_path / "shop")


@pytest.fixture(scope="module")
def undisturbed(before, tmp_path_factory):
    """What a maintenance gives that nobody kills: the digest of the champion, and the versions."""
    shop = before.copy(tmp_path_factory.mktemp("undisturbed") / "shop")
    result = shop.maintain()
    assert result.outcome == "promoted", result
    return shop.champion.digest, shop.versions()


class KilledError(BaseException):
    """The process is gone."""


def test_a_maintenance_that_is_killed_in_every_step_ends_as_one_that_is_not(shop, undisturbed, monkeypatch):
    """Each step is killed once before its work and once after it, before it is noted that it was done."""
    died = set()
    recall, remember = Run._recall, Store.remember

    def die(*what):
        if what not in died:
            died.add(what)
            raise KilledError(what)

    def dying_recall(self, step, inputs):
        die("before", step.name)
        return recall(self, step, inputs)

    def dying_remember(self, step, key, record):
        die("after", step)
        remember(self, step, key, record)

    def dying_line(*args, **more):
        die("before", "the line")
        line = write(*args, **more)
        die("after", "the line")
        return line

    write, write_state = ledger.write, MaintenanceState.write

    def dying_state(self, store, name):
        die("before", "the state", self.retraining is None)
        write_state(self, store, name)
        die("after", "the state", self.retraining is None)

    monkeypatch.setattr(Run, "_recall", dying_recall)
    monkeypatch.setattr(Store, "remember", dying_remember)
    monkeypatch.setattr(MaintenanceState, "write", dying_state)
    monkeypatch.setattr(maintenance.ledger, "write", dying_line)
    results = []
    for _ in range(60):
        try:
            results.append(shop.maintain())
            break
        except KilledError:
            continue
    assert len(died) >= 20
    assert (shop.champion.digest, shop.versions()) == undisturbed
    assert results[0].outcome in ("promoted", "kept")
    assert len(MaintenanceState.read(shop.store, "shop").begun_at) == 1
    assert shop.lines()[0].startswith("promoted: ")


def test_a_dry_run_says_what_would_be_done_and_changes_nothing(shop):
    before = ledger.path(shop.store).read_bytes()
    result = shop.maintain(is_dry=True)
    assert result.outcome == "dry run"
    assert re.fullmatch(r"it would be trained again, with [\d,]+ new rows", result.reason)
    assert ledger.path(shop.store).read_bytes() == before
    assert not (shop.store.root / "alerts.jsonl").exists()
    assert not (shop.store.root / "maintenance" / "shop" / "state.json").exists()


def test_a_broken_feed_is_refused_by_what_is_broken(shop):
    """Bad rows that are few of all; a column that is gone; rows that do not come; a source that is gone."""
    for broken, words in (
        ({"num_cut": 30}, "are in quarantine; data.max_bad_fraction is 1.0%"),
        ({"name": "color"}, "column 'colour' (string) is gone"),
        ({"num_empty": 1500}, "column 'z' is missing in "),
    ):
        shop.write(shop.week, **broken)
        result = shop.maintain()
        assert (result.outcome, result.exit_code) == ("refused", 2), result
        assert words in result.reason
    shop.write(FIRST)
    assert "the source stands still" in shop.maintain().reason
    (shop.folder / "rows.csv").unlink()
    assert "nothing there" in shop.maintain().reason
    assert shop.versions() == [1]
    assert shop.alerts() == [("retrain", "raised"), ("feed", "raised")]


def test_an_error_is_tried_three_times_and_then_given_up(shop):
    for number in range(1, 4):
        result = shop.maintain("train.family=nothing")
        assert (result.outcome, result.exit_code) == ("failed", 2)
        retraining = MaintenanceState.read(shop.store, "shop").retraining
        assert (None if retraining is None else retraining.num_failures) == (number if number < 3 else None)
    assert result.reason.endswith("; it is given up")
    assert len(MaintenanceState.read(shop.store, "shop").begun_at) == 1
    assert [line.split(":")[0] for line in shop.lines()] == ["failed"] * 3
    assert shop.alerts() == [("retrain", "raised"), ("maintenance", "raised")]
    assert "maintain.cooldown ends" in shop.maintain().reason


def test_a_retraining_whose_feed_breaks_after_it_was_killed_is_refused(shop, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(maintenance.workflow, "run", lambda *_: (_ for _ in ()).throw(KilledError()))
        with pytest.raises(KilledError):
            shop.maintain()
    shop.write(shop.week, num_cut=30)
    assert shop.maintain(is_dry=True).reason.endswith("would go on")
    assert shop.maintain().outcome == "refused"
    assert MaintenanceState.read(shop.store, "shop").retraining is None
    assert shop.versions() == [1]


def test_a_process_that_is_killed_leaves_a_retraining_with_which_the_next_one_goes_on(shop, undisturbed):
    program = [sys.executable, "-c", "from mlsys.cli import main; main()", "maintain", "shop"]
    command, quiet = [*program, "--store", str(shop.store.root)], subprocess.DEVNULL
    end = time.monotonic() + 120
    with subprocess.Popen(command, cwd=shop.folder, stdout=quiet, stderr=quiet) as process:
        while MaintenanceState.read(shop.store, "shop").retraining is None:
            assert process.poll() is None
            assert time.monotonic() < end
            time.sleep(0.01)
        process.kill()
    result = shop.maintain()
    assert result.outcome == "promoted"
    assert result.messages[0].startswith("goes on with the retraining that began at ")
    assert (shop.champion.digest, shop.versions()) == undisturbed


def test_no_retraining_begins_while_a_canary_runs(shop):
    trial = canaries.start(
        shop.store, registry.LedgerEntry("shop", 2, "1" * 64), shop.champion, "champion", TrialPlan()
    )
    result = shop.maintain()
    assert (result.outcome, result.exit_code) == ("waits", 0)
    assert result.reason == f"version {trial.entry.version} is a canary; `mlsys rollout shop` says how it fares"


@pytest.mark.parametrize(
    ("newest", "until"),
    [
        ("2025-06-15T23:00+00:00", ["2025-05-26", "2025-06-02", "2025-06-16"]),  # 77 days later
        ("2025-03-30T23:00+00:00", ["2025-03-10", "2025-03-17", "2025-03-31"]),
        ("2024-03-30T23:00+00:00", ["2025-03-10", "2025-03-17", "2025-03-31"]),
    ],
)
def test_parts_end_with_the_newest_rows_and_keep_their_lengths(tmp_path, newest, until):
    at = dt.datetime.fromisoformat(newest)
    moved = maintenance_feed.as_of(Store.open(tmp_path), parse(RECIPE), at, None)
    assert list(moved.split.until.values()) == until
    assert moved.having({"split.until": parse(RECIPE).split.until}) == parse(RECIPE)


def test_too_many_retrainings_wait(shop):
    result = shop.maintain("maintain.budget=0")
    assert (result.outcome, result.exit_code) == ("waits", 0)
    assert result.reason == "0 retrainings began within 365d; maintain.budget is 0"
    state = MaintenanceState(begun_at=[(shop.clock() - WEEK).isoformat()])
    state.write(shop.store, "shop")
    assert "maintain.cooldown ends" in shop.maintain().reason


def test_labels_that_cannot_be_taken_in_are_told_and_hold_up_nothing(shop):
    (shop.folder / "labels.csv").unlink()
    result = shop.maintain()
    assert any(message.startswith("labels were not taken in:") for message in result.messages)
    assert ("labels", "raised") in shop.alerts()


def test_one_maintenance_of_a_name_is_at_work_at_a_time(shop):
    lock = maintenance_state.folder(shop.store, "shop") / "lock"
    with locks.hold_if_free(lock, "test"), pytest.raises(errors.RegistryError, match="one maintenance of a name"):
        shop.maintain()


def test_a_name_without_a_run_of_its_recipe_needs_one(shop):
    shutil.rmtree(shop.store.root / "runs")
    with pytest.raises(errors.RegistryError, match="no run of its recipe"):
        shop.maintain()
