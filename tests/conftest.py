"""What holds for every tier: their order, their store, and what chance may do.

Tiers are folders, from the quickest to the slowest: a broken unit is reported before a
cluster has been started for a test that would fail of the same cause.
"""

import os
import socket
import subprocess
from pathlib import Path

import pytest
from hypothesis import settings
from xdist.scheduler import LoadScopeScheduling

from mlsys import cluster

TIERS = ("unit", "contracts", "golden", "repo", "cluster", "e2e")
HERE = Path(__file__).parent

# The same examples on every machine and on every run: a red build means a changed project. To look for new
# counter-examples: HYPOTHESIS_PROFILE=search. A slow machine fails no test, so there are no deadlines.
settings.register_profile("same", derandomize=True, deadline=None, print_blob=True)
settings.register_profile("search", max_examples=2_000, deadline=None, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "same"))

# Ray and OpenMP read their settings when they are first imported, which a unit test may do long before a cluster
# is joined.
os.environ.update({name: value for name, (value, _) in cluster.SETTINGS.items()})


def tier(path: Path) -> str:
    """Tier of a test file; the examples in docstrings of the package count as units."""
    return path.relative_to(HERE).parts[0] if path.is_relative_to(HERE) else "unit"


def pytest_collection_modifyitems(items):
    """Quick tiers first; within a tier the order stays."""
    items.sort(key=lambda item: TIERS.index(tier(item.path)))


def pytest_xdist_make_scheduler(config, log):
    """With ``--dist loadscope`` a tier is in one process: its tests share a cluster, or the port 8000."""
    return TierScheduling(config, log) if config.getvalue("dist") == "loadscope" else None


class TierScheduling(LoadScopeScheduling):
    """A schedule that keeps the tests of a tier together, in their order."""

    def _split_scope(self, nodeid):
        return tier(HERE.parent / nodeid.partition("::")[0])


@pytest.fixture(scope="session", autouse=True)
def own_store(tmp_path_factory):
    """Tests never see the store of the person who runs them, nor a cluster that happens to be up."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLSYS_STORE", str(tmp_path_factory.mktemp("store")))
        patch.delenv("RAY_ADDRESS", raising=False)
        yield


@pytest.fixture(scope="session")
def make_split(tmp_path_factory):
    """A stored split of generated rows: `make_split(kind, num_rows=…)` → (split, statistics, recipe, task).

    Three quantities, a category and a time column, some values missing; the target depends on
    two of the quantities and on the category. Parts come in several files.
    """

    def make(kind="binary", num_rows=600, *, folds=3, forward=False, parts=PARTS_OF_A_SPLIT, seed=0, **recipe):
        folder = tmp_path_factory.mktemp("split")
        settings = {"name": "generated", "target": "y", "data": {"source": "generated"}, **recipe}
        return generate_split(folder, kind, num_rows, settings, folds=folds, forward=forward, parts=parts, seed=seed)

    return make


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory):
    """Address of a real Redis server of this session's own, on loopback; the program is in Debian's redis-server."""
    import redis
    from redis.backoff import ConstantBackoff
    from redis.retry import Retry

    port, folder = _free_port(), tmp_path_factory.mktemp("redis")
    settings = {"bind": "127.0.0.1", "port": port, "dir": folder, "save": "", "appendonly": "no"}
    words = [word for name, value in settings.items() for word in (f"--{name}", str(value))]
    with subprocess.Popen(["redis-server", *words], stdout=subprocess.DEVNULL) as server:
        try:
            client = redis.Redis(port=port, retry=Retry(ConstantBackoff(0.05), 200))
            client.ping()
            client.close()
            yield f"redis://127.0.0.1:{port}/0"
        finally:
            server.terminate()


@pytest.fixture
def free_port():
    """A port of loopback that nothing listens on."""
    return _free_port()


def _free_port():
    with socket.socket() as opened:
        opened.bind(("127.0.0.1", 0))
        return opened.getsockname()[1]


PARTS_OF_A_SPLIT = {"train": 0.6, "validation": 0.2, "test": 0.2}


def generate_split(folder, kind, num_rows, settings, *, folds, forward, parts, seed):
    import datetime as dt

    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    from mlsys.dataset import Split
    from mlsys.recipe import Recipe
    from mlsys.schema import FOLD, ROW, Column, Kind, Role, Schema, Task
    from mlsys.statistics import TrainStatistics

    rng = np.random.default_rng(seed)
    a, b, c = rng.normal(size=(3, num_rows))
    colour = rng.integers(0, 5, num_rows)
    signal = 2 * a - b + (colour % 3) + 0.5 * rng.normal(size=num_rows)
    y, kind_of_y, classes = {
        "binary": (np.array(["no", "yes"])[(signal > 1).astype(int)], "string", ("no", "yes")),
        "multiclass": (np.array(["x", "y", "z"])[np.digitize(signal, [0, 2])], "string", ("x", "y", "z")),
        "regression": (signal, "double", ()),
    }[kind]
    absent = rng.random(num_rows) < 0.05
    table = pa.table({
        "at": pa.array([dt.datetime(2020, 1, 1, tzinfo=dt.UTC) + dt.timedelta(hours=int(h)) for h in range(num_rows)]),
        "a": a,
        "b": pa.array(b, mask=absent),
        "c": c,
        "colour": pa.array([f"colour {v}" for v in colour]),
        "y": y,
        ROW: pa.array(np.arange(num_rows)),
    })  # fmt: skip
    columns = (
        Column(name="at", type="timestamp[us, tz=UTC]", kind=Kind.DATETIME, role=Role.TIME),
        *(Column(name=name, type="double", kind=Kind.NUMERIC) for name in "abc"),
        Column(name="colour", type="string", kind=Kind.CATEGORICAL),
        Column(name="y", type=kind_of_y, kind=Kind.CATEGORICAL if classes else Kind.NUMERIC, role=Role.TARGET),
    )
    task = Task(kind=kind, target="y", classes=classes)
    bounds = np.cumsum([0, *(round(num_rows * share) for share in parts.values())])
    num_in = {}
    for (part, _), start, end in zip(parts.items(), bounds[:-1], bounds[1:], strict=True):
        piece = table.slice(start, end - start)
        fold = np.arange(len(piece)) * folds // max(1, len(piece)) if forward else np.arange(len(piece)) % folds
        piece = piece.append_column(FOLD, pa.array(fold if part == "train" else np.full(len(piece), -1), pa.int8()))
        (folder / part).mkdir()
        for number in range(3):
            rows = pa.array(np.arange(len(piece) * number // 3, len(piece) * (number + 1) // 3))
            pq.write_table(piece.take(rows), folder / part / f"part-{number:05d}.parquet")
        num_in[part] = len(piece)
    split = Split("0" * 64, folder, Schema(columns=columns), num_in, folds, forward)
    statistics = TrainStatistics.of_table(split.table("train"), split.schema, task)
    return split, statistics, Recipe.model_validate(settings), task
