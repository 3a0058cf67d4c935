"""API keys: what is kept of them, what they open, and how they end."""

import datetime as dt
import json
import os

import pytest

from mlsys import errors
from mlsys.deploy import api_keys
from mlsys.deploy.api_keys import KeyRing
from mlsys.store import Store


@pytest.fixture
def store(tmp_path):
    return Store.open(tmp_path)


@pytest.fixture
def ring(store, monkeypatch):
    monkeypatch.setattr(api_keys, "CHECK_S", 0.0)
    return KeyRing(api_keys.file_of(store))


def test_a_store_without_keys_asks_for_none_and_the_first_key_closes_it(store, ring):
    assert ring.is_open()
    made = api_keys.add(store, ["predict"])
    assert not ring.is_open()
    assert ring.find(made.text) == made.key
    api_keys.revoke(store, made.key.id)
    assert not ring.is_open()
    assert ring.find(made.text) is None


def test_the_secret_is_not_kept_and_its_file_is_closed_to_others(store):
    made = api_keys.add(store, ["predict"], note="the shop")
    secret = made.text.split("_", 2)[2]
    file = api_keys.file_of(store)
    assert secret not in file.read_text()
    assert file.stat().st_mode & 0o077 == 0
    assert file.with_name("owner.key").stat().st_mode & 0o077 == 0
    assert [key.to_json()["note"] for key in api_keys.listed(store)] == ["the shop"]
    assert "sha256" not in api_keys.listed(store)[0].to_json()


def test_a_text_that_differs_in_anything_is_no_key(store, ring):
    made = api_keys.add(store, ["admin"])
    assert not ring.is_open()
    for other in (made.text[:-1], made.text + "x", "mls_" + made.text, made.text.swapcase()):
        assert ring.find(other) is None


@pytest.mark.parametrize("text", ["", "mls", "mls_", "mls__", "Bearer", "mls_owner_", "ü_ß_€", "mls_\ud800_x"])
def test_texts_that_were_never_made_are_refused(store, ring, text):
    api_keys.add(store, ["admin"])
    assert not ring.is_open()
    assert ring.find(text) is None


def test_two_keys_are_valid_while_one_takes_over_from_the_other(store, ring):
    old = api_keys.add(store, ["predict", "labels"], models=["late"], requests_per_second=5)
    new = api_keys.rotate(store, old.key.id, "1h")
    assert not ring.is_open()
    assert ring.find(new.text).scopes == ("predict", "labels")
    assert (new.key.models, new.key.requests_per_second, new.key.expires_at) == (("late",), 5, None)
    kept = ring.find(old.text)
    ends = dt.datetime.fromisoformat(kept.expires_at)
    assert dt.timedelta(minutes=59) < ends - dt.datetime.now(dt.UTC) <= dt.timedelta(hours=1)
    assert not kept.is_valid(ends)
    again = api_keys.rotate(store, old.key.id, "2d")
    assert {key.id: key.expires_at for key in api_keys.listed(store)}[old.key.id] == kept.expires_at
    assert again.key.id != new.key.id


def test_a_key_ends_when_it_was_to_end(store, ring, monkeypatch):
    made = api_keys.add(store, ["predict"], expires="90d")
    assert ring.is_open() is False
    assert ring.find(made.text) is not None
    ended = dt.datetime.now(dt.UTC) + dt.timedelta(days=91)

    class Later(dt.datetime):
        @classmethod
        def now(cls, zone=None):
            return ended

    monkeypatch.setattr(api_keys.dt, "datetime", Later)
    assert ring.find(made.text) is None


def test_scopes_and_models_bound_what_a_key_opens(store):
    predict = api_keys.add(store, ["predict"], models=["late"]).key
    assert predict.may("predict", "late")
    assert predict.may(None, "late")
    assert not predict.may("predict", "other")
    assert not predict.may("labels", "late")
    assert all(api_keys.add(store, ["admin"]).key.may(scope, "late") for scope in (*api_keys.SCOPES, None))


@pytest.mark.parametrize("damage", [b"{", b"{}", b"[1]", b'[{"id": "a"}]'])
def test_a_damaged_file_opens_nothing_and_keeps_what_was_known(store, ring, damage):
    made = api_keys.add(store, ["predict"])
    assert not ring.is_open()
    api_keys.file_of(store).write_bytes(damage)
    assert not ring.is_open()
    assert ring.find(made.text) == made.key
    fresh = KeyRing(api_keys.file_of(store))
    assert not fresh.is_open()
    assert fresh.find(made.text) is None
    with pytest.raises(errors.StoreError):
        api_keys.listed(store)


def test_a_file_that_goes_while_it_is_used_opens_nothing(store, ring):
    made = api_keys.add(store, ["predict"])
    assert not ring.is_open()
    api_keys.file_of(store).unlink()
    assert not ring.is_open()
    assert ring.find(made.text) == made.key


def test_the_owner_has_a_key_that_no_list_shows_and_nobody_revokes(store, ring):
    assert api_keys.owner_headers(store) == {}
    api_keys.add(store, ["predict"])
    assert not ring.is_open()
    assert ring.find(api_keys.owner_headers(store)["X-API-Key"]).scopes == ("admin",)
    assert api_keys.OWNER not in [key.id for key in api_keys.listed(store)]
    with pytest.raises(errors.RegistryError):
        api_keys.revoke(store, api_keys.OWNER)


@pytest.mark.parametrize(
    ("scopes", "options", "said"),
    [
        (["predcit"], {}, "did you mean 'predict'?"),
        ([], {}, "at least one of"),
        (["predict"], {"requests_per_second": 0}, "above 0"),
        (["predict"], {"requests_per_second": float("nan")}, "above 0"),
        (["predict"], {"expires": "soon"}, "12h or 90d"),
    ],
)
def test_what_no_key_can_be_is_said(store, scopes, options, said):
    with pytest.raises(errors.RecipeError, match=said):
        api_keys.add(store, scopes, **options)
    assert not api_keys.exist(store)


def test_an_unknown_id_is_told_with_what_is_near(store):
    made = api_keys.add(store, ["predict"])
    with pytest.raises(errors.RegistryError, match=made.key.id):
        api_keys.revoke(store, made.key.id[:-1])


def test_a_write_that_fails_changes_no_key(store, monkeypatch):
    made = api_keys.add(store, ["predict"])
    before = json.loads(api_keys.file_of(store).read_text())

    def full(*_):
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(errors.StoreError):
        api_keys.rotate(store, made.key.id)
    assert json.loads(api_keys.file_of(store).read_text()) == before
