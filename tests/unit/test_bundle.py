import json

import numpy as np
import pytest

from bundles import fit, requests, rows
from mlsys import bundle, errors, models
from mlsys.recipe import DataSection, Reading, ReadOptions
from mlsys.schema import TaskKind
from mlsys.store import Store


@pytest.fixture
def store(tmp_path):
    return Store.open(tmp_path)


def test_the_same_model_has_the_same_digest_in_another_store(tmp_path):
    assert fit(Store.open(tmp_path / "a")).digest == fit(Store.open(tmp_path / "b")).digest


@pytest.mark.parametrize(
    "change", [{"threshold": 0.5}, {"provenance": {"seed": 1}}, {"params": {"rounds": 9}}, {"example": {"seats": 1}}]
)
def test_any_other_part_gives_another_digest(store, change):
    assert fit(store, **change).digest != fit(store).digest


def test_the_order_of_parameters_is_no_difference(store):
    assert fit(store, params={"a": 1, "b": 2}).digest == fit(store, params={"b": 2, "a": 1}).digest


def test_what_was_written_is_read_back(store):
    written = fit(store)
    opened = bundle.open(store, written.digest)
    assert opened.task.classes == (False, True)
    assert opened.family == "xgboost"
    assert opened.threshold == 0.4
    assert opened.provenance == {"seed": 0}
    assert opened.program == written.program
    assert opened.reference.inputs.num_rows == 400
    assert opened.reference.predictions is None
    assert opened.example == requests(rows(1))[0] | opened.example


def test_a_request_carries_features_id_and_time_and_never_the_target(store):
    names = fit(store).schema.names
    assert names == ["flight", "scheduled", "distance", "seats", "load", "carrier", "night", "departs", "constant"]


def test_no_file_of_a_bundle_is_a_pickle(store):
    for family in ("xgboost", "linear", "forest", "dummy"):
        folder = fit(store, family=family).folder
        suffixes = {file.suffix for file in folder.rglob("*") if file.is_file()}
        assert suffixes <= {".json", ".ubj", ".npz", ".npy", ".arrow"}
        assert not any(file.read_bytes().startswith(b"\x80") for file in folder.rglob("*") if file.is_file())


def test_a_bundle_holds_no_path_of_this_machine(store):
    text = b"".join(file.read_bytes() for file in fit(store).folder.rglob("*.json"))
    assert str(store.root).encode() not in text


@pytest.mark.parametrize("name", ["schema.json", "program.json", "model"])
def test_a_changed_byte_is_found_when_the_bundle_is_opened(store, name):
    written = fit(store)
    path = written.folder / name
    file = next(path.iterdir()) if path.is_dir() else path
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    with pytest.raises(errors.BundleError, match="missing or changed bytes"):
        bundle.open(store, written.digest)


def test_a_missing_file_is_found_when_the_bundle_is_opened(store):
    written = fit(store)
    (written.folder / "reference.json").unlink()
    with pytest.raises(errors.BundleError, match="reference"):
        bundle.open(store, written.digest)


def test_an_unknown_digest_is_no_bundle(store):
    with pytest.raises(errors.StoreError, match="not in the store"):
        bundle.open(store, "0" * 64)


def test_another_format_is_refused_with_what_to_do(store):
    def fill(folder):
        (folder / "bundle.json").write_text(json.dumps({"format": 99}))

    digest = store.put("bundle", fill)
    with pytest.raises(errors.BundleError) as caught:
        bundle.open(store, digest)
    assert str(caught.value) == (
        f"bundle '{digest[:12]}'\n"
        "  got:      format 99\n"
        "  expected: format 2\n"
        "  hint:     train again with this version of mlsys, or read it with the version that wrote it"
    )


def test_a_bundle_of_our_format_without_its_keys_is_refused(store):
    def fill(folder):
        (folder / "bundle.json").write_text(json.dumps({"format": 2}))

    with pytest.raises(errors.BundleError, match="the keys of format 2"):
        bundle.open(store, store.put("bundle", fill))


def test_a_loaded_model_predicts_the_bits_of_the_one_in_memory(store):
    for kind in TaskKind:
        written = fit(store, kind)
        X = written.program.transform(rows(50, seed=3, kind=kind))
        first, again = written.model(), bundle.open(store, written.digest).model()
        predicted = [models.predict(written.family, model, X) for model in (first, again)]
        assert np.array_equal(*predicted)


def test_how_the_source_was_read_is_kept_where_it_is_not_the_default_and_the_digest_is_as_before(tmp_path):
    store = Store.open(tmp_path)
    plain = fit(store)
    assert fit(store, read_options=ReadOptions()).digest == plain.digest
    assert plain.read_options == ReadOptions()
    options = ReadOptions(reading=Reading(delimiter=";", null_values=()), timezone="Europe/Berlin")
    other = fit(store, read_options=options)
    assert other.digest != plain.digest
    assert bundle.open(store, other.digest).read_options == options


def test_the_query_and_the_version_of_the_training_rows_are_not_those_of_other_files():
    data = DataSection(
        source="a.db", reading=Reading(query="select 1", version=3, encoding="cp1252"), timezone="Asia/Tokyo"
    )
    assert ReadOptions.of(data) == ReadOptions(reading=Reading(encoding="cp1252"), timezone="Asia/Tokyo")
