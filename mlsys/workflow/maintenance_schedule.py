"""Maintain models again and again: a process of the cluster for each, whose schedule and state lie in the store.

The process is an actor that nobody owns (`mlsys.cluster.detached`): when it dies, or its machine, Ray starts another.
When the whole cluster ends, the schedule stays, and `mlsys up`, `mlsys status` and every run of a recipe start the
actor again on the cluster that is there then. Each maintenance is a process of its own, the command `mlsys maintain`:
one that is killed is begun again within a minute, and goes on where it was.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import hashlib
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mlsys import cluster, errors, locks, registry
from mlsys.recipe import set_values
from mlsys.recipe.columns import span_us
from mlsys.store import Store, read_json, write_json
from mlsys.workflow import maintenance, maintenance_state
from mlsys.workflow.maintenance_state import MaintenanceState

LOOK_S = 1.0
"""Seconds between two looks at the clock."""

AGAIN = dt.timedelta(minutes=1)
"""Time after which a maintenance that was killed is begun again."""

MAIN = "from mlsys.cli import main; main()"
"""The program of a maintenance: the command line."""

_logger = logging.getLogger("ray.serve")


@dataclass(frozen=True)
class MaintenanceSchedule:
    """A model, or the file of its recipe, and how often it is maintained, in which folder, since when."""

    name: str
    model: str
    every: str
    settings: tuple[str, ...]
    folder: str
    since: str
    who: str

    def to_json(self) -> dict[str, Any]:
        """Keys: name, model, every, settings, folder, since and who."""
        return asdict(self)

    @property
    def summary(self) -> str:
        """One line for people."""
        return f"{self.name} is maintained every {self.every}; `mlsys maintain {self.name} --stop` ends that"

    def is_due(self, state: MaintenanceState, tried_at: dt.datetime | None, now: dt.datetime) -> bool:
        """True if the model is to be maintained now; `tried_at` is when this process did it last.

        A retraining that was begun, and that no error ended, goes on at once.
        """
        if state.retraining is not None and state.retraining.num_failures == 0:
            return tried_at is None or now - tried_at >= AGAIN
        last = dt.datetime.fromisoformat(state.last["at"]) if state.last else None
        known = [time for time in (last, tried_at) if time is not None]
        return not known or now - max(known) >= dt.timedelta(microseconds=span_us(self.every))


def schedule_maintenance(
    model: str | Path,
    every: str,
    *,
    set: Mapping[str, Any] | Iterable[str] = (),  # noqa: A002  (as --set on the command line)
    store: Path | str | None = None,
) -> MaintenanceSchedule:
    """Maintain a model again and again, from now on, on the cluster of the store, which is started if none runs.

    Parameters
    ----------
    model, set
        As of `maintain`. Relative paths of a recipe are those below the present folder.
    every
        A span such as ``1d``.

    Raises
    ------
    RegistryError, RecipeError, ClusterError
        There is no such model or recipe, `every` is no span, or no cluster can be reached.
    """
    home, settings = Store.open(store), tuple(set_values(set))
    name = maintenance.recipe_of(home, model, settings).name
    registry.existing(home, name)
    try:
        is_long = span_us(every) >= 1_000_000
    except ValueError:
        is_long = False
    if not is_long:
        expected = "a span of a second or more, e.g. 1h or 1d"
        raise errors.RecipeError.build("maintain: --every", got=repr(every), expected=expected)
    place = str(Path(model).absolute()) if Path(model).suffix in (".yaml", ".yml") else str(model)
    since = dt.datetime.now(dt.UTC).isoformat(timespec="seconds")
    schedule = MaintenanceSchedule(name, place, every, settings, str(Path.cwd()), since, locks.who())
    cluster.connect(home)
    write_json(_file(home, name), schedule.to_json())
    start(home, name)
    return schedule


def end_maintenance(name: str, *, store: Path | str | None = None) -> bool:
    """Maintain a model no more; one that is at work is finished. False if there was no schedule."""
    home = Store.open(store)
    registry.existing(home, name)
    was_scheduled = _file(home, name).is_file()
    _file(home, name).unlink(missing_ok=True)
    return was_scheduled


def read(store: Store, name: str) -> MaintenanceSchedule | None:
    """The schedule of a model, if it has one.

    Raises
    ------
    StoreError
        The file is damaged.
    """
    if not _file(store, name).is_file():
        return None
    value = read_json(_file(store, name))
    return MaintenanceSchedule(**{**value, "settings": tuple(value["settings"])})


def _file(store: Store, name: str) -> Path:
    return maintenance_state.folder(store, name) / "schedule.json"


def names(store: Store) -> list[str]:
    """Models that have a schedule."""
    return sorted(path.parent.name for path in (store.root / "maintenance").glob("*/schedule.json"))


def start(store: Store, name: str) -> None:
    """Have the actor of a model on the cluster to which this process is connected; without one nothing happens."""
    if cluster.is_connected():
        cluster.start_detached(actor_name(store, name), Maintainer, str(store.root), name)


def resume(store: Store) -> None:
    """Have the actors of all models with a schedule, if the cluster of the store runs and can be reached."""
    scheduled = names(store)
    if not scheduled:
        return
    with contextlib.suppress(errors.ClusterError):
        if not cluster.is_connected() and cluster.status(store) is not None:
            cluster.connect(store)
        for name in scheduled:
            start(store, name)


def actor_name(store: Store, name: str) -> str:
    """The name of the actor that maintains a model."""
    return f"maintain-{hashlib.sha256(f'{store.root}/{name}'.encode()).hexdigest()[:16]}"


class Maintainer:
    """Maintains a model when it is time, in a thread, as long as it has a schedule."""

    def __init__(self, root: str, name: str) -> None:
        self._store, self._name = Store.open(root), name
        self._is_closed = threading.Event()
        self._tried_at: dt.datetime | None = None
        threading.Thread(target=self._look_on, daemon=True, name="maintainer").start()

    def close(self) -> None:
        """Begin no other maintenance."""
        self._is_closed.set()

    def _look_on(self) -> None:
        while not self._is_closed.wait(LOOK_S):
            try:
                schedule = read(self._store, self._name)
                if schedule is None:
                    cluster.stop_detached(actor_name(self._store, self._name))
                    return
                self._maintain_if_due(schedule)
            except Exception:
                _logger.exception("the maintenance of '%s' is tried again", self._name)

    def _maintain_if_due(self, schedule: MaintenanceSchedule) -> None:
        now = dt.datetime.now(dt.UTC)
        if schedule.is_due(MaintenanceState.read(self._store, self._name), self._tried_at, now):
            self._tried_at = now
            perform(self._store, schedule)


def perform(store: Store, schedule: MaintenanceSchedule) -> int:
    """Maintain a model in a process of its own, whose output is appended to ``log.txt`` beside the schedule."""
    words = [word for setting in schedule.settings for word in ("--set", setting)]
    command = [sys.executable, "-c", MAIN, "maintain", schedule.model, "--store", str(store.root), *words]
    environment = {**os.environ, **cluster.client_environment(store)}
    if "RAY_ADDRESS" not in environment and cluster.is_connected():
        environment["RAY_ADDRESS"] = _address()
    log = maintenance_state.folder(store, schedule.name) / "log.txt"
    with log.open("ab") as output, contextlib.suppress(KeyboardInterrupt):
        output.write(f"\n{dt.datetime.now(dt.UTC).isoformat(timespec='seconds')}\n".encode())
        output.flush()
        done = subprocess.run(
            command, cwd=schedule.folder, env=environment, stdin=subprocess.DEVNULL, stdout=output,
            stderr=subprocess.STDOUT, check=False,
        )  # fmt: skip
        return done.returncode
    return 130


def _address() -> str:
    """The address of the cluster to which this process is connected."""
    import ray

    return str(ray.get_runtime_context().gcs_address)
