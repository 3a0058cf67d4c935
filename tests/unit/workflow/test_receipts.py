"""The receipt of a bundle: what it holds, what it does not hold, and that the digest knows nothing of it."""

import hashlib
import json
import shutil

import pytest

import mlsys
from mlsys import bundle, errors, registry
from mlsys.code_graph import code_parts
from mlsys.store import MANIFEST, Store, read_json
from mlsys.workflow import receipts, retention

QUICK = {"selection.families": ["linear"], "tune.trials": 0, "split.folds": 2}
ROWS = "x,colour,y\n" + "".join(f"{i},{'rgb'[i % 3]},{int((i > 90) != (i % 10 == 0))}\n" for i in range(200))


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a table of which one row is no number, and a store with a run that trained on it."""
    folder = tmp_path_factory.mktemp("receipts")
    (folder / "rows.csv").write_text(ROWS + "secret@example.com,r,1\n")
    recipe = {"name": "small", "target": "y", "data": {"source": str(folder / "rows.csv"), "kinds": {"x": "numeric"}}}
    done = mlsys.run(recipe, "train", set=QUICK, store=folder / "store", cluster=False, quiet=True)
    return folder, recipe, done


@pytest.fixture
def receipt(place):
    folder, _, done = place
    return receipts.read(bundle.open(Store(folder / "store"), done.bundle))


def test_it_names_the_rows_the_files_the_recipe_and_the_run(place, receipt):
    folder, _, done = place
    result = read_json(done.folder / "result.json")
    assert (receipt.bundle, receipt.name) == (done.bundle, "small")
    assert receipt.steps["collect"]["snapshot"] == result["collect"]["snapshot"]
    assert receipt.steps["tune"]["params"] == result["tune"]["params"]
    assert receipt.recipe == (done.folder / "resolved.yaml").read_text()
    (history,) = (done.folder / "history").iterdir()
    assert read_json(history)["id"] == receipt.run
    data = (folder / "rows.csv").read_bytes()
    (source,) = receipt.sources
    assert (source.part, source.source) == ("data", str(folder / "rows.csv"))
    digest = hashlib.sha256(data).hexdigest()
    assert source.files == [{"name": "rows.csv", "bytes": len(data), "sha256": digest}]


def test_it_names_code_and_libraries_by_what_runs(place, receipt):
    folder, _, _ = place
    parts = code_parts(Store(folder / "store"), "mlsys.workflow.modelling:train")
    assert receipt.code["mlsys.workflow.modelling:train"] == parts.own[:16]
    assert receipt.code["mlsys.models.families.linear"] == parts.modules["mlsys.models.families.linear"][:16]
    assert "mlsys.cli" not in receipt.code
    assert {"python", "mlsys", "numpy", "scikit-learn", "polars"} <= receipt.libraries.keys()
    assert "sklearn" not in receipt.libraries


def test_no_row_stands_in_it_and_the_manifest_does_not_know_it(place):
    folder, _, done = place
    file = Store(folder / "store").path("bundle", done.bundle) / receipts.FILE
    assert (done.folder / "quarantine.parquet").is_file()
    assert "secret@example" not in file.read_text()
    manifest = read_json(file.with_name(MANIFEST))
    assert receipts.FILE not in {entry["name"] for entry in manifest["files"]}


def test_the_same_model_of_another_name_is_the_same_bundle_whose_first_receipt_stays(place, receipt):
    folder, recipe, done = place
    other = {**recipe, "name": "other"}
    again = mlsys.run(other, "train", set=QUICK, store=folder / "store", cluster=False, quiet=True)
    assert again.bundle == done.bundle
    assert receipts.read(bundle.open(Store(folder / "store"), done.bundle)) == receipt


def decisive(receipt):
    """What the steps of a receipt made; a step that ran again took another time."""
    return {step: [getattr(result, name) for name in result.identity] for step, result in receipt.results().items()}


def test_it_is_written_anew_where_it_is_gone_or_what_it_names_is(place, receipt):
    folder, recipe, done = place
    file = Store(folder / "store").path("bundle", done.bundle) / receipts.FILE
    for text in (None, "{", json.dumps({**json.loads(file.read_text()), "name": "gone"}).replace("snapshot", "snap")):
        file.unlink(missing_ok=True)
        if text is not None:
            file.write_text(text)
        mlsys.run(recipe, "train", set=QUICK, store=folder / "store", cluster=False, quiet=True)
        written = receipts.read(bundle.open(Store(folder / "store"), done.bundle))
        assert (written.name, decisive(written), written.code) == ("small", decisive(receipt), receipt.code)


def test_cleaning_keeps_what_a_bundle_in_service_names(place, receipt, tmp_path):
    folder, _, done = place
    shutil.copytree(folder / "store", tmp_path / "store")
    store = Store.open(tmp_path / "store")
    registry.register(store, "small", bundle.open(store, done.bundle))
    registry.set_alias(store, "small", "champion", 1, "the first")
    shutil.rmtree(store.root / "runs")
    digests = {digest for _, digest in receipt.objects()}
    assert digests.isdisjoint({row.path.name for row in retention.leftovers(store, days=0)})
    (store.path("bundle", done.bundle) / receipts.FILE).unlink()
    lost = {row.path.name for row in retention.leftovers(store, days=0)}
    assert receipt.steps["collect"]["snapshot"] in lost  # of a bundle alone nothing but the divided rows is needed


def test_a_bundle_without_one_says_what_to_do(tmp_path):
    from bundles import fit

    made = fit(Store.open(tmp_path))
    with pytest.raises(errors.BundleError) as caught:
        receipts.read(made)
    assert str(caught.value) == (
        f"reproduce: bundle '{made.digest[:12]}'\n"
        "  got:      no receipt.json in its folder that can be read\n"
        "  expected: the receipt that a run leaves there\n"
        "  hint:     run its recipe again with this version: a run that comes to the same bundle writes it"
    )
