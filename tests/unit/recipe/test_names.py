"""Names that mean something else already are refused in the recipe, with what to write instead."""

import pytest

from mlsys import errors
from mlsys.recipe import parse

REST = "target: y\ndata: {source: rows.csv}"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("v2", "another name: /v2 is a route of the gateway"),
        ("console", "another name: /console is a route of the gateway"),
        ("gateway", "another name: this one is the gateway's"),
        ("together", "another name: this one is that of many models in one application"),
        ("deadbeef", "another name: eight and more of 0-9 and a-f are the digits of a digest"),
        ("2late", "a small letter, then small letters, digits, - and _, at most 63 in all"),
    ],
)
def test_a_name_that_collides_is_refused(name, expected):
    with pytest.raises(errors.RecipeError) as caught:
        parse(f"name: {name}\n{REST}")
    assert str(caught.value) == f"recipe: 'name'\n  got:      '{name}'\n  expected: {expected}"


@pytest.mark.parametrize(
    ("alias", "expected"),
    [
        ("v2", "a word that cannot be taken for a version or a digest, e.g. champion"),
        ("deadbeef", "a word that cannot be taken for a version or a digest, e.g. champion"),
        ("latest", "another word: MLflow keeps 'latest' for the newest version"),
        ("2", "a letter, then letters, digits, - and _, at most 63 in all"),
    ],
)
def test_an_alias_that_collides_is_refused(alias, expected):
    with pytest.raises(errors.RecipeError) as caught:
        parse(f"name: late\n{REST}", [f"deploy.alias='{alias}'"])
    assert str(caught.value) == f"recipe: 'deploy.alias'\n  got:      '{alias}'\n  expected: {expected}"


@pytest.mark.parametrize("name", ["late", "facade", "v2x", "a1b2c3d", "v"])
def test_a_name_that_only_looks_a_little_like_one_is_taken(name):
    assert parse(f"name: {name}\n{REST}").name == name
