"""A canary in its own process: the bits of one in the replica, and whatever it does, stable answers."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time

import polars as pl
import psutil
import pyarrow as pa
import pytest

import faulty
from bundles import fit, requests, rows
from faulty import ENDS, HANGS, NO_NUMBER, RAISES, SWELLS
from mlsys import errors
from mlsys.deploy import asgi, canary_process, prediction_log, tallies
from mlsys.deploy.bodies import Body
from mlsys.deploy.canary_process import CanaryFailedError, CanaryGoneError, CanaryProcess
from mlsys.deploy.canary_router import BASIS_POINTS, CanarySlot, TrafficSplit
from mlsys.deploy.requests import Request
from mlsys.deploy.service import FEW_ROWS, Service, load
from mlsys.recipe import LimitsSection
from mlsys.registry import LedgerEntry
from mlsys.store import Store

MANY = FEW_ROWS + 4


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    store = Store.open(tmp_path_factory.mktemp("store"))
    with faulty.installed(tmp_path_factory.mktemp("package")):
        yield store


@pytest.fixture(scope="module")
def entry(store):
    return LedgerEntry("late", 2, fit(store, family="faulty", settings={"rounds": 8}).digest)


@pytest.fixture(scope="module")
def stable(store):
    return load(store, LedgerEntry("late", 1, fit(store).digest))


@pytest.fixture(scope="module")
def process(store, entry):
    process = CanaryProcess(store, entry, log={"flush_s": 0.1})
    yield process
    process.close()
    process._process.wait(120)


@pytest.fixture
def service(stable):
    service = Service("late", None)
    service.model = stable
    return service


@pytest.fixture
def slot(store, service):
    slot = CanarySlot(store, service)
    yield slot
    slot.clear()


def filled(slot, entry, **more):
    """The slot with a canary of all requests in its own process; returns the id of the trial, and the process."""
    split = TrafficSplit(f"t{time.monotonic_ns()}", 0, BASIS_POINTS, is_isolated=True, **more)
    slot.fill(entry, split)
    return split.trial, slot._router.canary


def asked(num_rows=1, seats=None, **more):
    records = requests(rows(num_rows, seed=5))
    return Request(records=records if seats is None else [*records[:-1], {**records[-1], "seats": seats}], **more)


@pytest.mark.parametrize(
    "request_",
    [
        asked(),
        asked(MANY),
        asked(3, explain=2),
        Request(columns=pa.Table.from_pylist(requests(rows(MANY))).to_pydict()),
    ],
    ids=["a row", "many", "explained", "columns"],
)  # fmt: skip
def test_it_answers_with_the_bits_of_the_model_in_this_process(store, entry, process, request_):
    here = Service("late", None).compute(load(store, entry), request_)
    there = process.compute(request_, is_shown=False)
    assert there.predictions.score.tolist() == here.predictions.score.tolist()
    assert there.predictions.prediction.tolist() == here.predictions.prediction.tolist()
    assert there.predictions.unseen == here.predictions.unseen
    assert len(there.ids) == len(here.ids)
    assert there.latency_ms > 0
    assert there.model.identity == {"name": "late", "version": 2, "digest": entry.digest}
    if here.explanations is not None:
        assert there.explanations.largest(2) == here.explanations.largest(2)


def test_what_is_shown_is_in_the_log_and_nothing_else(store, process):
    process.compute(asked(ids=["shown"]))
    process.compute(asked(ids=["unseen"]), is_shown=False)
    folder, end = prediction_log.folder_of(store, "late"), time.monotonic() + 20
    while not (files := list(folder.glob("*/*.parquet"))):
        assert time.monotonic() < end
        time.sleep(0.05)
    time.sleep(0.3)
    logged = pl.concat([pl.read_parquet(file) for file in files])
    assert logged["prediction_id"].to_list() == ["shown"]
    assert logged["model_version"].to_list() == ["2"]


@pytest.mark.parametrize(("seats", "told"), [(RAISES, "XGBoostError"), (NO_NUMBER, "ArithmeticError")])
@pytest.mark.parametrize("num_rows", [1, MANY])
def test_what_it_raises_is_told_and_it_goes_on(process, seats, told, num_rows):
    with pytest.raises(CanaryFailedError, match=told) as caught:
        process.compute(asked(num_rows, seats))
    assert not isinstance(caught.value, CanaryGoneError)
    assert len(process.compute(asked(num_rows)).ids) == num_rows


def test_a_process_that_ends_is_given_up_at_once_with_the_reason(store, service, slot, stable, entry):
    trial, process = filled(slot, entry)
    assert service.respond(stable, asked()).model.entry == entry
    for _ in range(3):
        answer = service.respond(stable, asked(MANY, ENDS))
        assert answer.model is stable
        assert answer.predictions.score.tolist() == stable.predictor.rows(asked(MANY, ENDS).records).score.tolist()
    assert process._process.wait(120) == -signal.SIGABRT
    assert tallies.refusal(store, "late", trial) == "a replica has lost it: its process ended by SIGABRT"
    slot.clear()
    total = tallies.total(store, "late", trial, 0).canary
    assert (total.requests, total.errors, total.fallbacks) == (4, 3, 3)


def test_a_process_that_is_killed_between_two_requests_is_given_up(store, service, slot, stable, entry):
    trial, process = filled(slot, entry)
    os.kill(process.pid, signal.SIGKILL)
    assert service.respond(stable, asked()).model is stable
    assert tallies.refusal(store, "late", trial) == "a replica has lost it: its process ended by SIGKILL"


def test_a_process_that_gives_no_answer_is_ended(store, service, slot, stable, entry, monkeypatch):
    monkeypatch.setattr(canary_process, "LONGEST_S", 0.5)
    trial, process = filled(slot, entry)
    assert service.respond(stable, asked(1, HANGS)).model is stable
    assert process._process.wait(120) == -signal.SIGKILL
    assert tallies.refusal(store, "late", trial) == "a replica has lost it: its process gave no answer within 0.5 s"


def test_a_process_that_takes_too_much_memory_ends_itself(store, service, slot, stable, entry, monkeypatch):
    bound = f"from mlsys.deploy import canary_process as own; own.MOST_GROWTH = {faulty.SWOLLEN_BYTES // 2}"
    monkeypatch.setattr(canary_process, "MAIN", f"{bound}\n{canary_process.MAIN}")
    trial, _ = filled(slot, entry)
    assert service.respond(stable, asked(1, SWELLS)).model is stable
    assert tallies.refusal(store, "late", trial) == "a replica has lost it: its process took too much memory"


def test_requests_of_stable_do_not_wait_for_a_process_that_hangs(service, slot, stable, entry, monkeypatch):
    monkeypatch.setattr(canary_process, "LONGEST_S", 120.0)
    _, process = filled(slot, entry)
    handler = asgi.RequestHandler(service, LimitsSection())

    def answer(seats, *, of_version):
        body = Body(json.dumps({"instances": asked(1, seats).records}).encode())
        return handler.answer(asgi.MLFLOW, body, time.monotonic(), of_version=of_version)

    async def both():
        hung = asyncio.create_task(answer(HANGS, of_version=False))
        await asyncio.sleep(0.2)
        quick = [await answer(100, of_version=True) for _ in range(20)]
        assert not hung.done()
        os.kill(process.pid, signal.SIGKILL)
        return [*quick, await hung]

    for each in asyncio.run(both()):
        assert each.status_code == 200
        assert json.loads(each.body)["model"]["version"] == 1


REPLICA = """
import json, os, signal, sys
from mlsys.deploy.canary_process import CanaryProcess
from mlsys.deploy.requests import Request
from mlsys.registry import LedgerEntry
from mlsys.store import Store
root, entry, records = map(json.loads, sys.argv[1:])
process = CanaryProcess(Store.open(root), LedgerEntry(*entry), log={"flush_s": 1.0})
process.compute(Request(records=records, ids=["last"]))
print(process.pid, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_process_whose_replica_is_killed_writes_its_log_and_ends(tmp_path, entry, store):
    bundles = tmp_path / "objects" / "bundle"
    bundles.parent.mkdir()
    bundles.symlink_to(store.root / "objects" / "bundle")
    facts = map(json.dumps, [str(tmp_path), list(entry), asked().records])
    done = subprocess.run([sys.executable, "-c", REPLICA, *facts], capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    folder, end = prediction_log.folder_of(Store.open(tmp_path), "late"), time.monotonic() + 20
    while psutil.pid_exists(int(done.stdout)) or not list(folder.glob("*/*.parquet")):
        assert time.monotonic() < end
        time.sleep(0.05)
    (file,) = folder.glob("*/*.parquet")
    assert pl.read_parquet(file)["prediction_id"].to_list() == ["last"]


def test_a_shadow_in_its_own_process_is_compared_and_may_end_it(store, service, slot, stable, entry):
    trial, process = filled(slot, entry, is_shadow=True)
    assert service.respond(stable, asked(ids=["a"])).model is stable
    assert service.respond(stable, asked(1, ENDS, ids=["b"])).model is stable
    assert process._process.wait(120) == -signal.SIGABRT
    end = time.monotonic() + 20
    while slot._trial[1].write() or tallies.total(store, "late", trial, 0).canary.requests < 2:
        assert time.monotonic() < end
        time.sleep(0.02)
    total = tallies.total(store, "late", trial, 0)
    assert (total.canary.requests, total.canary.errors, total.stable.errors) == (2, 1, 0)
    assert total.canary.latency.count == 1
    assert "SIGABRT" in tallies.refusal(store, "late", trial)


def test_a_canary_that_does_not_load_there_gets_no_request(store, service, slot, stable):
    split = TrafficSplit("t-absent", 0, BASIS_POINTS, is_isolated=True)
    slot.fill(LedgerEntry("late", 3, "0" * 64), split)
    assert service.respond(stable, asked()).model is stable
    assert service.divide is None
    refused = tallies.refusal(store, "late", "t-absent")
    assert refused.startswith("a replica cannot load it: StoreError: store: bundle")


def test_a_wider_canary_keeps_its_process_and_none_is_left_behind(store, service, slot, entry):
    trial, process = filled(slot, entry)
    slot.fill(entry, TrafficSplit(trial, 1, BASIS_POINTS, is_isolated=True))
    assert slot._router.canary is process
    assert slot.model(entry) is None
    slot.fill(entry, TrafficSplit(trial, 2, BASIS_POINTS))
    assert slot.model(entry).entry == entry
    assert process._process.wait(120) == 0
    slot.clear()
    assert service.respond == service.answer
    assert service.divide is None


def test_a_fault_of_the_client_counts_for_no_version(store, service, slot, stable, entry):
    trial, _ = filled(slot, entry)
    with pytest.raises(errors.RequestError):
        service.respond(stable, Request(records=[{"seats": "many"}]))
    slot.clear()
    assert tallies.total(store, "late", trial, 0).canary.requests == 0
