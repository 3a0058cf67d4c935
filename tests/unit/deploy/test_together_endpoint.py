"""Which models can be served together, and what is said of them."""

import pytest

from bundles import fit
from mlsys import errors, operate, registry
from mlsys.deploy import together_endpoint
from mlsys.deploy.together_endpoint import ServedTogether
from mlsys.store import Store


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        store = Store.open(tmp_path_factory.mktemp("store"))
        for name in ("late", "early"):
            registry.set_alias(store, name, "champion", registry.register(store, name, fit(store)), "test")
        registry.set_alias(store, "late", "challenger", 1, "test")
    return store


def test_a_name_means_its_champion_and_an_alias_may_be_named(store):
    found = together_endpoint.aliases(store, ["late@challenger", "early"])
    assert {name: alias for name, (_, alias) in found.items()} == {"late": "challenger", "early": "champion"}
    assert found["late"][0] == registry.resolve(store, "late", 1)


@pytest.mark.parametrize(
    ("targets", "told"),
    [
        (["lat"], "did you mean 'late'"),
        (["late", "late@challenger"], "'late' twice"),
        (["late@1"], "expected: an alias"),
        (["late@chalenger"], "challenger"),
    ],
)
def test_what_cannot_be_followed_is_refused_before_anything_starts(store, targets, told):
    with pytest.raises(errors.RegistryError, match=told):
        operate.serve_together(targets, store=store.root)


def test_a_setting_that_is_none_is_refused_before_anything_starts(store):
    with pytest.raises(errors.RecipeError, match="min_replica"):
        operate.serve_together(["late"], set={"deploy.min_replica": 1}, store=store.root)


def test_where_none_are_served_there_is_nothing_to_end(store):
    assert operate.served_together(store=store.root) is None
    assert operate.stop_together(store=store.root) is False


def test_a_line_says_what_is_in_memory():
    served = ServedTogether("http://h:1", "c", {"a": "champion", "b": "challenger"}, 4 << 30, {"b": 3 << 20})
    head = "together: a@champion, b@challenger at http://h:1"
    assert served.summary == f"{head}; in memory of the replica that was asked: b 3 MiB, of 4,096 MiB"
    assert ServedTogether.from_json(served.to_json()) == served
