"""Canaries under traffic: bad ones are taken back, a good one is promoted, and every request is answered."""

import contextlib
import dataclasses
import json
import os
import signal
import threading
import time
import urllib.error
import urllib.request

import pyarrow as pa
import pyarrow.compute as pc
import pytest

import faulty
from bundles import fit, requests, rows, schema, stored
from mlsys import cluster, recipe, registry
from mlsys.deploy import canary_judge, canary_rollout, rollout
from mlsys.deploy.endpoints import ServeEndpoints
from mlsys.deploy.service import FEW_ROWS
from mlsys.registry import canaries, ledger
from mlsys.registry.canaries import TrialPlan
from mlsys.schema import Schema, Task, TaskKind

NAME = "careful"
PLAN = TrialPlan(percents=(50, 100), every_s=2.0, min_requests=200, alpha=0.05, slowdown=3.0)
SECTIONS = {"deploy": recipe.DeploySection(port=0, max_replicas=1).model_dump(mode="json")}
LONGEST_S = 150
TABLE = rows(200, seed=44)
ROWS, LABELS = requests(TABLE), TABLE["y"].to_pylist()


def asking_for_more():
    """Columns of a model that refuses rows without a carrier."""
    changes = {"carrier": {"nullable": False}}
    return Schema(columns=[each.model_copy(update=changes.get(each.name, {})) for each in schema()])


def trained(store, columns, table):
    task = Task(kind=TaskKind.BINARY, target="y", classes=(False, True))
    example = requests(table.slice(0, 1))[0]
    return stored(store, table, columns, task, example={**example, "carrier": "AA"})


def with_target(table, target):
    return table.set_column(table.column_names.index("y"), "y", target)


@pytest.fixture(scope="module", autouse=True)
def served(store, endpoints):
    """Version 1 in service; 2 is as good, and 3 refuses what 1 answers.

    4 says yes to almost all rows, 5 has so many trees that it takes longer, and 6 has learned the opposite. 7 is as
    good as 1 but for values on which its library fails, or ends the process.
    """
    table = rows(400)
    complete = table.filter(table["carrier"].is_valid())
    yes = pa.array([number % 40 > 0 for number in range(table.num_rows)])
    bundles = [
        fit(store),
        fit(store, seed=1),
        trained(store, asking_for_more(), complete),
        trained(store, schema(), with_target(table, yes)),
        fit(store, family="extra_trees", settings={"trees": 2_500}),
        trained(store, schema(), with_target(table, pc.invert(table["y"]))),
        fit(store, family="faulty", settings={"rounds": 8}),
    ]
    for each in bundles:
        registry.register(store, NAME, each)
    there = ServeEndpoints(store)
    first = registry.resolve(store, NAME, 1)
    change = rollout.put(store, first, "champion", there, reason="first", sections=SECTIONS)
    yield change.endpoint
    cluster.stop_detached(canary_judge.actor_name(store, NAME))


@contextlib.contextmanager
def traffic(url, *, has_labels=False, seats=()):
    """Two clients that send a row after the other; yields the list of statuses and versions of the answers.

    With labels, each client sends those of its last rows as well. Every tenth request has the next of `seats`, in
    turns alone and as the last of many rows.
    """
    is_over, outcomes = threading.Event(), []

    def send(start):
        number, labels = start, []
        while not is_over.is_set():
            place, name = number % len(ROWS), f"{url}-{time.monotonic_ns()}-{number}"
            row = {name: value for name, value in ROWS[place].items() if name != "flight"}
            sent, odd = [row], number // 2 % 10 == 0
            if seats and odd:
                sent = [row] * (number // 20 % 2 * FEW_ROWS) + [{**row, "seats": seats[number // 40 % len(seats)]}]
            params = {"prediction_ids": [name, *[f"{name}-{other}" for other in range(1, len(sent))]]}
            outcomes.append(ask(f"{url}/invocations", {"instances": sent, "params": params}))
            labels.append({"prediction_id": name, "label": LABELS[place]})
            if has_labels and len(labels) >= 50:
                outcomes.append(ask(f"{url}/labels", {"labels": labels}))
                labels.clear()
            number += 2
            time.sleep(0.002)

    clients = [threading.Thread(target=send, args=(start,)) for start in range(2)]
    for client in clients:
        client.start()
    try:
        yield outcomes
    finally:
        is_over.set()
        for client in clients:
            client.join()


def ask(url, body=None):
    """Status of a request, and the version that answered it."""
    request = urllib.request.Request(url, body and json.dumps(body).encode(), {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, json.load(answer)["model"]["version"]
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def state_of(endpoint):
    with urllib.request.urlopen(f"{endpoint.url}/ready", timeout=30) as answer:
        return json.load(answer)


def ask_stats(endpoint):
    with urllib.request.urlopen(f"{endpoint.url}/stats", timeout=30) as answer:
        return json.load(answer)


def tried(store, endpoint, version, during=lambda: None, plan=PLAN, **sent):
    """Run the trial of a version under traffic to its end; returns it, and the answers."""
    entry, there = registry.resolve(store, NAME, version), ServeEndpoints(store)
    with traffic(endpoint.url, **sent) as outcomes:
        canary_rollout.begin(store, entry, "champion", there, plan, reason="a test", tell=lambda _: None)
        during()
        end = time.monotonic() + LONGEST_S
        while canaries.running(store, NAME) is not None:
            assert time.monotonic() < end, ledger.read(store)[-1]
            time.sleep(0.1)
        while "canary" in state_of(endpoint):
            assert time.monotonic() < end, "the replica still has the canary"
            time.sleep(0.1)
    return canaries.last(store, NAME), outcomes


def kill_the_judge(store):
    os.kill(cluster.detached_process(canary_judge.actor_name(store, NAME)), signal.SIGKILL)


def test_a_canary_that_refuses_what_stable_answers_is_taken_back_and_no_request_fails(store, served):
    trial, outcomes = tried(store, served, 3)
    assert trial.ended == "taken_back"
    assert "stable answered" in trial.reason
    assert trial.counts["fallbacks"] > 0
    assert {status for status, _ in outcomes} == {200}
    assert registry.resolve(store, NAME).version == 1


def test_a_canary_whose_library_fails_or_gives_no_number_is_taken_back_and_no_request_fails(store, served):
    trial, outcomes = tried(store, served, 7, seats=(faulty.RAISES, faulty.NO_NUMBER))
    assert trial.ended == "taken_back"
    assert "fallback: stable answered " in trial.reason
    assert trial.counts["fallbacks"] > 0
    assert {status for status, _ in outcomes} == {200}
    assert {version for _, version in outcomes} == {1, 7}


def test_a_canary_that_ends_its_own_process_is_taken_back_and_no_request_fails(store, served):
    replica = ask_stats(served)["started_at"]
    trial, outcomes = tried(
        store, served, 7, plan=dataclasses.replace(PLAN, isolation="process", every_s=3_600.0), seats=(faulty.ENDS,)
    )
    assert (trial.ended, trial.reason) == ("taken_back", "a replica has lost it: its process ended by SIGABRT")
    assert ledger.read(store)[-1].reason == trial.reason
    assert {status for status, _ in outcomes} == {200}
    assert {version for _, version in outcomes} == {1, 7}
    assert ask_stats(served)["started_at"] == replica
    assert registry.resolve(store, NAME).version == 1


def test_a_canary_of_other_scores_is_taken_back_and_no_request_fails(store, served):
    trial, outcomes = tried(store, served, 4)
    assert trial.ended == "taken_back"
    assert trial.reason.startswith("scores: their distributions differ by ")
    assert {status for status, _ in outcomes} == {200}
    assert {version for _, version in outcomes} == {1, 4}
    assert ask(f"{served.url}/ready") == (200, 1)


def test_a_canary_that_takes_longer_is_taken_back_and_no_request_fails(store, served):
    trial, outcomes = tried(store, served, 5, plan=dataclasses.replace(PLAN, every_s=3_600.0, slowdown=1.05, shift=0.9))
    assert trial.ended == "taken_back"
    assert trial.reason.startswith("latency: ")
    assert {status for status, _ in outcomes} == {200}
    assert {version for _, version in outcomes} == {1, 5}


def test_a_canary_that_is_wrong_is_taken_back_by_labels_that_come_meanwhile(store, served):
    plan = dataclasses.replace(PLAN, every_s=3_600.0, shift=0.99, slowdown=50.0)
    trial, outcomes = tried(store, served, 6, plan=plan, has_labels=True)
    assert trial.ended == "taken_back"
    assert trial.reason.startswith("labels: the mean loss is ")
    assert min(trial.counts["canary_labels"], trial.counts["stable_labels"]) >= 100
    assert {status for status, _ in outcomes} == {200}


def test_a_canary_that_is_deployed_again_says_how_to_ask_its_endpoint(store, served):
    entry, there = registry.resolve(store, NAME, 2), ServeEndpoints(store)
    plan = dataclasses.replace(PLAN, percents=(1, 100), every_s=3_600.0)
    how = {"reason": "a test", "tell": lambda _: None}
    first, again = (canary_rollout.begin(store, entry, "champion", there, plan, **how) for _ in range(2))
    assert (first.is_new, again.is_new) == (True, False)
    assert again.endpoint.curl == first.endpoint.curl == served.curl
    rollout.rollback(store, NAME, "champion", there, reason="asked enough", tell=lambda _: None)


def test_a_good_canary_is_promoted_by_a_judge_that_was_killed_meanwhile(store, served):
    trial, outcomes = tried(store, served, 2, during=lambda: kill_the_judge(store))
    assert (trial.ended, trial.counts["canary_errors"]) == ("promoted", 0)
    assert {status for status, _ in outcomes} == {200}
    assert {version for _, version in outcomes} == {1, 2}
    assert registry.resolve(store, NAME).version == 2
    assert ask(f"{served.url}/ready") == (200, 2)
    kinds = [move.kind for move in ledger.read(store) if move.name == NAME]
    assert kinds[-3:] == ["deploying", "move", "promoted"]
    of_trials = [kind for kind in kinds if kind in ("canary", "taken_back", "promoted")]
    assert of_trials == [*7 * ["canary", "taken_back"], "canary", "promoted"]
