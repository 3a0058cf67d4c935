"""Watch a registered model by its name: settings and baseline are those that were noted with it.

Nothing of it runs a step of a recipe, moves an alias or touches an endpoint: it reads the prediction log and the
labels, and writes a judgement.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from mlsys import bundle, errors, registry
from mlsys.bundle import Bundle
from mlsys.dataset import Split
from mlsys.deploy import prediction_log, replay_rows
from mlsys.monitor import incoming, judge, label_store, last
from mlsys.monitor.incoming import Received
from mlsys.monitor.labels import WrittenLabels
from mlsys.recipe import ReadOptions, Recipe, load, override
from mlsys.registry import LedgerEntry, ledger
from mlsys.schema import Role
from mlsys.store import Store, read_json, write_atomic
from mlsys.workflow import alerting
from mlsys.workflow.results import MonitorResult

if TYPE_CHECKING:
    from mlsys.monitor.labels import LabelSource

NO_LOG = "no predictions yet: send the endpoint requests and run `mlsys monitor` again"


@dataclass(frozen=True)
class WatchedModel:
    """A version of a model with what is needed to judge its predictions.

    Attributes
    ----------
    recipe
        Name, target and the settings with which it is watched; all else is default.
    baseline
        Its evaluation on the test rows; None if none was noted.
    """

    entry: LedgerEntry
    bundle: Bundle
    recipe: Recipe
    baseline: Mapping[str, Any] | None

    @classmethod
    def resolve(cls, store: Store, model: str) -> WatchedModel:
        """Find ``name``, ``name@alias`` or ``name@version``; a name alone means what serves as champion.

        Raises
        ------
        RegistryError
            There is no such model or version.
        """
        name, _, which = model.partition("@")
        entry = registry.resolve(store, name, which or "champion")
        opened = bundle.open(store, entry.digest)
        return cls(entry, opened, _recipe(store, entry, opened), baseline(store, name, entry.digest))


def _recipe(store: Store, entry: LedgerEntry, opened: Bundle) -> Recipe:
    """The settings that were noted when the name was last deployed, in a recipe whose other values are defaults."""
    noted = registry.settings(store, entry.name) or _settings_of_run(store, entry.name)
    id_column = opened.schema.name_of(Role.ID)
    data = {"source": "-", "id": id_column, "timezone": opened.read_options.timezone, **noted.get("data", {})}
    sections = {name: noted[name] for name in ("selection", "evaluate", "monitor") if name in noted}
    target = list(opened.task.labels) or opened.task.target
    return Recipe.model_validate({"name": entry.name, "target": target, "data": data, **sections})


def _settings_of_run(store: Store, name: str) -> dict[str, Any]:
    """The settings of the last run of a recipe, for a version with which none were noted."""
    resolved = store.root / "runs" / name / "resolved.yaml"
    if not resolved.is_file():
        return {}
    recipe = load(resolved)
    sections = recipe.model_dump(mode="json", include={"selection", "evaluate", "monitor"})
    return {**sections, "data": {"id": recipe.data.id, "timezone": recipe.data.timezone}}


def baseline(store: Store, name: str, digest: str) -> Mapping[str, Any] | None:
    """The evaluation that was noted with the version of this bundle, or that of the last run if it made the bundle."""
    moves = [move for move in ledger.read(store) if (move.kind, move.name, move.digest) == ("register", name, digest)]
    noted = next((move.facts["evaluation"] for move in moves if "evaluation" in move.facts), None)
    result = store.root / "runs" / name / "result.json"
    if noted is None and result.is_file():
        records = read_json(result)
        if records.get("train", {}).get("bundle") == digest:
            noted = records.get("evaluate", {}).get("evaluation")
    if noted is None or not store.has("evaluation", noted):
        return None
    values: Mapping[str, Any] = store.get_json("evaluation", noted)
    return values


def monitor(
    store: Store,
    model: str,
    settings: Iterable[str] = (),
    labels: LabelSource | None = None,
    recipe: Recipe | None = None,
    compare: tuple[str, str] | None = None,
    *,
    sends: bool = True,
) -> MonitorResult:
    """Judge the logged predictions of a registered model, and send the alerts of an alias that are due.

    Parameters
    ----------
    settings
        Overrides such as ``monitor.granularity=1 day``.
    labels
        A source of labels beside those that the store keeps.
    recipe
        A recipe of the model, whose settings are taken in place of those that were noted.
    compare
        Two windows to compare with each other besides.
    sends
        Send the alerts that are due.

    Raises
    ------
    RegistryError
        There is no such model or version.
    RecipeError
        A setting is not one of the monitor's, or there is no such window.
    """
    watched = WatchedModel.resolve(store, model)
    chosen = recipe or _overridden(watched.recipe, settings)
    result = judge_log(store, chosen, watched.bundle, watched.baseline, labels, compare)
    alias = model.partition("@")[2] or "champion"
    if not sends or registry.meant(store, watched.entry.name, alias) is None:  # a version: nobody waits for it
        return result
    return replace(result, messages=(*result.messages, *alerting.tell(store, chosen, result, alias)))


def _overridden(recipe: Recipe, settings: Iterable[str]) -> Recipe:
    """The recipe with other values of the section ``monitor``."""
    chosen = list(settings)
    for setting in chosen:
        if not setting.startswith("monitor."):
            raise errors.RecipeError.build(
                f"monitor: --set {setting}", got=setting.partition("=")[0], expected="a key of the section monitor",
                hint="what a model is made of is set where it is made: `mlsys run RECIPE --set …`",
            )  # fmt: skip
    return override(recipe, chosen) if chosen else recipe


def judge_log(
    store: Store,
    recipe: Recipe,
    opened: Bundle,
    evaluation: Mapping[str, Any] | None,
    labels: LabelSource | None,
    compare: tuple[str, str] | None = None,
) -> MonitorResult:
    """Judge what a bundle answered, write the report, and note the decision for `mlsys status`.

    Without its `evaluation` on the test rows performance is shown and not judged.
    """
    name = recipe.name
    log = prediction_log.folder_of(store, name)
    if not prediction_log.files(log):
        return MonitorResult(decision="keep", exit_code=0, windows=[], summary=NO_LOG)
    judgement = judge.compare(
        store, name, opened, log, labels, recipe, baseline=evaluation, replayed=_replayed(store, recipe, opened),
        is_stored=True, compared=compare,
    )  # fmt: skip
    report = store.run_folder(name) / "reports" / "monitor.html"
    write_atomic(report, (judgement.folder / "report.html").read_bytes())
    version = next((entry.version for entry in registry.versions(store, name) if entry.digest == opened.digest), None)
    last.note(store, judgement, version, report)
    messages = [*judgement.value["messages"], *judgement.damage]
    if evaluation is None:
        messages.append("No evaluation was noted with this version: performance is shown and not judged.")
    return MonitorResult(
        decision=judgement.decision,
        exit_code=judgement.exit_code,
        windows=judgement.value["windows"],
        summary=judgement.summary,
        judgement=judgement.digest,
        report=str(report),
        messages=tuple(messages),
        comparison=judgement.comparison,
        alarms=tuple(judgement.alarms),
    )


def _replayed(store: Store, recipe: Recipe, opened: Bundle) -> LabelSource | None:
    """Labels of the production rows of the split that the bundle was trained on: by id, else as they were replayed."""
    digest = opened.provenance.get("split")
    if digest is None or not store.has("split", digest):
        return None
    rows = Split.open(store, digest).only("production")
    if not rows.num_rows.get("production"):
        return None
    if recipe.data.id is not None:
        return rows.paths("production")[0].parent
    target = opened.task.target
    chunks = list(replay_rows.chunks(rows, "production", opened.schema, [target]))
    ids = [name for chunk in chunks for name in chunk.ids]
    label = pa.concat_tables([chunk.others for chunk in chunks])[target]
    return pa.table({"prediction_id": pa.array(ids, pa.string()), "label": label})


def receive_labels(store: Store, model: str, source: str, settings: Iterable[str] = ()) -> Received:
    """Take late labels in: each once, checked against the ids of the log, for every later run of the monitor.

    Parameters
    ----------
    settings
        How the source is read, if not as in training, such as ``reading.delimiter=;``.

    Raises
    ------
    RegistryError
        There is no such model.
    SourceError, RecipeError, ContractError
        The source cannot be read, has no key or label, or no label is a class of the model.
    """
    watched = WatchedModel.resolve(store, model)
    schema, options = watched.bundle.schema, watched.bundle.read_options
    chosen: ReadOptions = override(options, settings) if settings else options
    id_column, time_column = watched.recipe.data.id, schema.name_of(Role.TIME)
    written = WrittenLabels.read(source, watched.bundle.task, id_column, time_column, chosen)
    counts = incoming.check(store, watched.entry.name, written, watched.bundle, id_column)
    return Received(label_store.add(store, watched.entry.name, written), counts)
