"""From a prediction back to its files, and from a file to all that was made of it, in one real store."""

import datetime as dt
import hashlib
import json
import shutil

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

import mlsys
from mlsys import bundle, errors, operate, registry
from mlsys.cli import app
from mlsys.deploy import batch, batch_records, prediction_log, row_ids
from mlsys.deploy.batch_queue import JobQueue, JobSpec
from mlsys.deploy.prediction_log import SPANS, Span
from mlsys.store import Store, read_json
from mlsys.web_console.lineage_page import lineage_page
from mlsys.web_console.page_frame import Links
from mlsys.workflow import lineage, receipts, run_record, source_lineage

QUICK = {"selection.families": ["linear"], "tune.trials": 0, "split.folds": 2}
ROWS = "x,colour,y\n" + "".join(f"{i},{'rgb'[i % 3]},{int((i > 90) != (i % 10 == 0))}\n" for i in range(200))
TINTS = "colour,tint\nr,0.5\ng,0.25\nb,0.125\n"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A table and a feature table, a version of each of two models, and three logged predictions of one."""
    folder = tmp_path_factory.mktemp("lineage")
    (folder / "rows.csv").write_text(ROWS)
    (folder / "tints.csv").write_text(TINTS)
    (folder / "other.csv").write_text(ROWS.replace("10,", "11,"))
    store = Store.open(folder / "store")
    joins = {"tints": {"source": str(folder / "tints.csv"), "keys": ["colour"]}}
    recipes = {"small": ("rows.csv", joins), "plain": ("other.csv", {})}
    for name, (source, joined) in recipes.items():
        recipe = {"name": name, "target": "y", "data": {"source": str(folder / source)}, "features": {"joins": joined}}
        done = mlsys.run(recipe, "train", set=QUICK, store=store.root, cluster=False, quiet=True)
        (record,) = run_record.records(store, name)
        registry.register(store, name, bundle.open(store, done.bundle), facts={"run": record["id"]})
    registry.set_alias(store, "small", "champion", 1, "the first")
    log(store, row_ids.new_ids(3))
    return folder


def log(store, ids):
    digest = registry.resolve(store, "small", 1).digest
    at = dt.datetime.now(dt.UTC)
    path = prediction_log.folder_of(store, "small") / at.date().isoformat() / "w-000000000000.parquet"
    path.parent.mkdir(parents=True)
    table = pa.table({
        "prediction_id": ids, "logged_at": pa.array([at] * len(ids), pa.timestamp("us", "UTC")),
        "model_version": ["1"] * len(ids), "bundle": [digest] * len(ids), "prediction": ["0", "1", "0"],
    })  # fmt: skip
    pq.write_table(table.replace_schema_metadata({SPANS: prediction_log.packed([Span("w", 0, len(ids))])}), path)


@pytest.fixture
def store(made, tmp_path):
    shutil.copytree(made / "store", tmp_path / "store")
    return Store.open(tmp_path / "store")


def second_id(store):
    (file,) = prediction_log.files(prediction_log.folder_of(store, "small"))
    return pq.read_table(file.path)["prediction_id"][1].as_py()


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_prediction_leads_to_its_row_version_snapshot_files_recipe_and_code(made, store):
    name, entry = second_id(store), registry.resolve(store, "small", 1)
    traced = operate.lineage(name, store=store.root)
    (row,) = traced.rows
    assert (traced.kind, traced.model, row.row, row.number, row.values["prediction"]) == (
        "prediction",
        "small",
        1,
        1,
        "1",
    )
    assert traced.searched.startswith("1 row group of 1 file read, of ")
    (version,) = traced.versions
    receipt = receipts.read(bundle.open(store, entry.digest))
    assert (version.name, version.version, version.digest, version.aliases) == ("small", 1, entry.digest, ("champion",))
    assert (version.run, version.recipe) == (receipt.run, receipt.recipe)
    assert version.snapshot == read_json(store.root / "runs" / "small" / "result.json")["collect"]["snapshot"]
    files = {source.part: source.files for source in version.sources}
    assert files["data"][0]["sha256"] == sha256(made / "rows.csv")
    assert files["tints"][0]["sha256"] == sha256(made / "tints.csv")
    assert version.gone == ()
    text = traced.summary
    assert f"prediction {name} of 'small'" in text
    assert f"rows.csv {sha256(made / 'rows.csv')[:12]}" in text
    assert f"mlsys why {receipt.run[:8]}" in text
    assert "mlsys reproduce small@1" in text


@pytest.mark.parametrize("table", ["rows.csv", "tints.csv"])
@pytest.mark.parametrize("form", ["path", "digest"])
def test_a_file_leads_to_snapshots_versions_runs_and_predictions(made, store, table, form):
    text = str(made / table) if form == "path" else sha256(made / table)
    traced = operate.lineage(text, store=store.root)
    assert traced.kind == "source"
    (snapshot,) = traced.snapshots
    assert (snapshot.by, snapshot.files) == ("bytes", (table,))
    assert snapshot.names == (("small",) if table == "rows.csv" else ("small/tints",))
    (version,) = traced.versions
    assert (version.name, version.version, version.by) == ("small", 1, "bytes")
    assert sum(version.predictions.values()) == 3
    assert [(run.name, run.status) for run in traced.runs] == [("small", "finished")]
    assert f"snapshot {snapshot.digest[:12]}" in traced.summary
    assert ": 3 rows" in traced.summary


def test_a_file_that_was_changed_since_is_known_by_its_place_alone(made, store, tmp_path):
    moved = tmp_path / "elsewhere" / "rows.csv"
    moved.parent.mkdir()
    moved.write_text(ROWS + "1,r,1\n")
    traced = operate.lineage(str(moved), store=store.root)
    assert {snapshot.by for snapshot in traced.snapshots} == {version.by for version in traced.versions} == {"name"}
    moved.with_name("new.csv").write_text("a,b\n1,2\n")
    unknown = operate.lineage(str(moved.with_name("new.csv")), store=store.root)
    assert (unknown.snapshots, unknown.versions, unknown.runs) == ((), (), ())
    assert unknown.gone[0] == "no snapshot in the store has rows of it"


def test_a_version_leads_both_ways_also_by_its_digest(store):
    queue = JobQueue(store)
    job = queue.submit(JobSpec("small", "champion", 1, "postgresql://app:hidden@host/db", "out", run_id="r7"))
    entry = registry.resolve(store, "small", 1)
    for target in ("small", "small@1", "small@champion", entry.digest):
        traced = operate.lineage(target, store=store.root)
        (version,) = traced.versions
        assert (traced.kind, version.digest, sum(version.predictions.values())) == ("version", entry.digest, 3)
    assert version.jobs == (
        {"id": job.id, "state": "queued", "input": "postgresql://app:***@host/db", "output": "out", "run_id": "r7"},
    )
    assert f"batch    {job.id[:8]} queued: " in traced.summary


@pytest.fixture
def scored(store, tmp_path):
    """A file that version 1 has predicted, into an output of 20 rows."""
    (tmp_path / "new.csv").write_text("x,colour\n" + "".join(f"{i},r\n" for i in range(20)))
    return batch.predict(store, "plain@1", tmp_path / "new.csv", tmp_path / "scored", plan="task")


@pytest.mark.parametrize("place", ["new.csv", "scored", "scored/part-00000.parquet", "digest", "run"])
def test_a_batch_prediction_is_found_from_its_file_its_output_and_its_id(store, tmp_path, scored, place):
    digest = sha256(tmp_path / "new.csv")
    target = {"digest": digest, "run": scored.run_id}.get(place, str(tmp_path / place))
    traced = operate.lineage(target, store=store.root)
    (use,) = traced.batches
    by = {"new.csv": "bytes", "digest": "bytes", "run": ""}.get(place, "output")
    assert (traced.kind, use.by, use.is_replaced) == ("batch" if place == "run" else "source", by, False)
    record = use.record
    assert (record.name, record.version, record.digest, record.status) == (*scored_by(store), "succeeded")
    assert (record.num_rows, record.num_rejected, record.is_job) == (20, 0, False)
    assert (record.source, record.output) == (str(tmp_path / "new.csv"), str(tmp_path / "scored"))
    size = (tmp_path / "new.csv").stat().st_size
    assert record.files == ({"name": "new.csv", "bytes": size, "sha256": digest},)
    assert f"new.csv {digest[:12]}" in traced.summary
    assert f"{scored.run_id} by plain version 1" in traced.summary


def test_the_page_of_a_batch_prediction_names_its_files_and_its_version(store, tmp_path, scored):
    traced = operate.lineage(scored.run_id, store=store.root).to_json()
    page = lineage_page(Links(""), scored.run_id, traced)
    assert [text for text in (scored.run_id, "plain@1", str(tmp_path / "scored")) if text not in page] == []


def scored_by(store):
    return tuple(registry.resolve(store, "plain", 1))


def test_a_version_lists_what_it_predicted_and_an_output_that_was_replaced_is_said_to_be(store, tmp_path, scored):
    (version,) = operate.lineage("plain@1", store=store.root).versions
    assert [each.record.run_id for each in version.batches] == [scored.run_id]
    assert f"batch    {scored.run_id[:8]} succeeded: " in operate.lineage("plain@1", store=store.root).summary
    (tmp_path / "new.csv").write_text("x,colour\n1,r\n")
    later = batch.predict(store, "plain@1", tmp_path / "new.csv", tmp_path / "scored", plan="task")
    both = {
        use.record.run_id: use.is_replaced for use in operate.lineage("plain@1", store=store.root).versions[0].batches
    }
    assert both == {scored.run_id: True, later.run_id: False}


def test_why_tells_a_batch_prediction_that_failed_until_it_succeeds(store, tmp_path):
    (tmp_path / "new.csv").write_text("x,colour\nmany,r\n2,g\n")
    with pytest.raises(errors.ContractError):
        batch.predict(store, "plain@1", tmp_path / "new.csv", tmp_path / "out", plan="task")
    (failed,) = batch_records.records(store, "plain")
    explained = operate.why(failed.run_id, store=store.root)
    assert (explained.name, explained.run, explained.status) == ("plain", failed.run_id, "failed")
    assert f"plain: batch prediction {failed.run_id} of " in explained.summary
    (statement,) = explained.statements
    assert statement.is_cause
    assert "rows that do not fit the model: got 1 of 2" in statement.words
    assert statement.read == (f"{tmp_path / 'new.csv'}, by version 1",)
    assert statement in operate.why("plain", store=store.root).statements
    batch.predict(store, "plain@1", tmp_path / "new.csv", tmp_path / "out", plan="task", max_rejected_fraction=0.5)
    (statement,) = [each for each in operate.why("plain", store=store.root).statements if each.about == "batch"]
    assert (statement.is_cause, "1 of 2 rows of" in statement.words) == (False, True)


def test_what_is_no_longer_stored_is_said_and_the_record_of_the_run_still_names_the_rows(store):
    entry = registry.resolve(store, "small", 1)
    before = operate.lineage("small@1", store=store.root).versions[0]
    shutil.rmtree(store.root / "objects" / "bundle" / entry.digest)
    shutil.rmtree(store.root / "objects" / "split")
    (version,) = operate.lineage("small@1", store=store.root).versions
    assert (version.snapshot, version.split, version.run) == (before.snapshot, before.split, before.run)
    assert (version.sources, version.code) == ((), None)
    assert version.gone == (
        "the bundle is no longer in the store",
        f"split {before.split[:12]} is no longer in the store",
    )
    shutil.rmtree(store.root / "runs")
    (version,) = operate.lineage("small@1", store=store.root).versions
    assert version.gone[1] == "no record of its run is there: rows, recipe and code are not known"


def test_a_bundle_without_a_receipt_is_said_to_have_none(store):
    entry = registry.resolve(store, "small", 1)
    (store.path("bundle", entry.digest) / receipts.FILE).unlink()
    (version,) = operate.lineage("small@1", store=store.root).versions
    assert version.gone[0].startswith("the bundle has no receipt: ")
    assert version.recipe is not None


def test_an_id_that_no_log_has_is_refused(store):
    with pytest.raises(errors.RegistryError) as caught:
        operate.lineage("nobody", store=store.root)
    assert str(caught.value) == (
        "lineage: 'nobody'\n"
        "  got:      nothing of this name, and no such id in 1 prediction log\n"
        "  expected: the id of a prediction, NAME@VERSION, or a path, URI or digest of a source\n"
        "  hint:     rows are in the log a second after the answer; `mlsys status` says how many wait, or were lost"
    )
    with pytest.raises(errors.RegistryError, match="the prediction log of 'plain'"):
        operate.lineage(second_id(store), model="plain", store=store.root)
    with pytest.raises(errors.RecipeError, match="lineage: --at"):
        operate.lineage("x", at="noon", store=store.root)
    with pytest.raises(errors.RegistryError, match="did you mean 'small'"):
        operate.lineage("x", model="smal", store=store.root)


def test_a_time_near_the_answer_says_where_an_id_of_a_client_is(store):
    name, today = second_id(store), dt.datetime.now(dt.UTC).isoformat()
    traced = operate.lineage(name, kind="prediction", model="small", at=today, store=store.root)
    assert len(traced.rows) == 1


def test_the_verb_prints_the_chain_and_the_same_as_json(store):
    name = second_id(store)
    text = CliRunner().invoke(app, ["lineage", name, "--store", str(store.root)])
    assert text.exit_code == 0
    assert "small version 1" in text.stdout
    done = CliRunner().invoke(app, ["lineage", name, "--json", "--store", str(store.root)])
    value = json.loads(done.stdout)
    assert value.keys() == {
        "kind", "target", "model", "rows", "searched", "snapshots", "runs", "batches", "versions", "gone"
    }  # fmt: skip
    assert value["rows"][0]["row"] == 1


def test_a_source_is_told_by_its_form(tmp_path):
    assert [source_lineage.is_source(text) for text in (str(tmp_path), "s3://bucket/a.csv", "0" * 64, "order-7")] == [
        True, True, True, False
    ]  # fmt: skip


def test_uris_are_matched_as_the_recipe_shows_them():
    query = source_lineage.SourceQuery.of("s3://key:hidden@bucket/a.csv")
    files = [{"name": "s3://key:***@bucket/a.csv", "sha256": "1"}, {"name": "b.csv", "sha256": "2"}]
    assert query.match(files) == ("name", ("s3://key:***@bucket/a.csv",))
    assert query.match(files, "s3://key:***@bucket/a.csv") == ("source", ("s3://key:***@bucket/a.csv", "b.csv"))
    assert query.match([{"name": "c.csv", "sha256": None}], "d.csv") == ("", ())


def test_lists_are_shown_up_to_a_length():
    assert lineage._some([str(k) for k in range(10)]) == "0, 1, 2, 3, 4, 5, 6, 7, and 2 more"
    assert lineage._some(["a"]) == "a"


def test_a_batch_prediction_without_a_record_is_told_as_one(store):
    with pytest.raises(errors.RegistryError, match="batch prediction 'nothing'"):
        operate.lineage("nothing", kind="batch", store=store.root)
