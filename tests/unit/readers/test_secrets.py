"""Secrets of sources come from the environment and are shown and written nowhere."""

import time

import pytest

from mlsys import api, errors, workflow
from mlsys.collect import snapshot
from mlsys.features.online.lookup import open_store
from mlsys.readers import registry
from mlsys.recipe import Reading, dump, parse, secrets
from mlsys.store import Store


@pytest.mark.parametrize(("source", "text"), [
    ("postgresql://app:hidden@host:5432/db", "postgresql://app:***@host:5432/db"),
    ("postgresql+psycopg://app:hid%40den@host/db", "postgresql+psycopg://app:***@host/db"),
    ("postgresql://app:p@hidden/x@host/db", "postgresql://app:***@host/db"),
    ("postgresql://app:${PW}@host/db", "postgresql://app:${PW}@host/db"),
    ("mysql://host/db?user=app&password=hidden&ssl=1", "mysql://host/db?user=app&password=***&ssl=1"),
    ("s3://KEY:hidden/with@bucket/a/*.csv", "s3://KEY:***@bucket/a/*.csv"),
    ("s3://bucket/a.csv?secret_key=hidden&region=eu", "s3://bucket/a.csv?secret_key=***&region=eu"),
    ("delta+s3://KEY:hidden@bucket/t", "delta+s3://KEY:***@bucket/t"),
    ("https://hidden@host/a.csv", "https://***@host/a.csv"),
    ("https://host/a.csv?X-Amz-Signature=hidden&x=1", "https://host/a.csv?X-Amz-Signature=***&x=1"),
    ("data/mail@host.csv", "data/mail@host.csv"),
    ("sqlite:////tmp/a@b.db", "sqlite:////tmp/a@b.db"),
])  # fmt: skip
def test_a_source_is_shown_without_its_secrets(source, text):
    assert secrets.shown(source) == text


@pytest.mark.parametrize("part", ["x", "://:", "?_key", "?key;", "=_key", "&a=", "${a", "@", "https://", "?a=b#", "_"])
def test_a_text_of_a_client_is_searched_once_and_not_again_from_each_place(part):
    """Clients name files and settings, of up to 64 KB."""
    text = part * (64_000 // len(part))
    began = time.process_time()
    secrets.shown(f"@{text}")
    secrets.values([f"?{text}"])
    assert time.process_time() - began < 3, "a minute where each place was tried against all that follow it"


def test_the_resolved_recipe_holds_the_name_and_no_secret():
    text = (
        "name: shop\ntarget: y\n"
        "data: {source: ['postgresql://app:hidden@host/db', 'postgresql://app:${PW}@host/db']}\n"
        "features: {joins: {prices: {source: 'https://u:hidden@host/p.csv', keys: [k]}}}\n"
    )
    written = dump(parse(text))
    assert "hidden" not in written
    assert "${PW}" in written


def test_a_variable_is_put_in_and_one_that_is_not_set_is_named(write, monkeypatch):
    path = write("a.csv", "n,y\n1,a\n")
    monkeypatch.setenv("DATA_FOLDER", str(path.parent))
    (fragment,) = registry.find("${DATA_FOLDER}/a.csv", Reading())
    assert fragment.location == str(path)
    with pytest.raises(errors.RecipeError, match=r"no environment variable NO_SUCH_NAME\n[\s\S]*export NO_SUCH_NAME=…"):
        registry.find("postgresql://app:${NO_SUCH_NAME}@host/db", Reading(query="SELECT 1"))


@pytest.mark.parametrize("source", [
    "nosuchdriver://app:hidden@host/db",
    "postgresql://app:hidden@127.0.0.1:1/db",
    "s3://KEY:hidden@no-such-bucket-of-mine?endpoint_override=127.0.0.1:1&scheme=http",
    "delta+s3://KEY:hidden@bucket/t",
])  # fmt: skip
def test_errors_and_names_show_no_secret(source, monkeypatch):
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    reading = Reading(query="SELECT 1") if "driver" in source or "postgres" in source else Reading()
    with pytest.raises(errors.MlsysError) as raised:  # noqa: PT012  (either of the two fails)
        for fragment in registry.find(source, reading):
            assert "hidden" not in fragment.name
            list(registry.batches(fragment, reading, []))
    assert "hidden" not in str(raised.value)


def test_a_password_that_is_written_out_is_told():
    (message,) = snapshot._secret_messages(("a.csv", "postgresql://app:hidden@host/db"))
    assert message.startswith("data.source holds a password: masked")
    assert snapshot._secret_messages("postgresql://app:${PW}@host/db") == []


CACHE = "redis://app:hidden@cache:6379/0"
RECIPE = "name: m\ntarget: y\ndata: {source: a.csv}\n"


def test_a_password_of_the_look_up_is_refused_before_anything_is_written_and_masked_in_what_is(tmp_path):
    recipe = parse(RECIPE, [f"deploy.lookup={CACHE}"])
    assert "lookup: redis://app:***@cache:6379/0\n" in dump(recipe)
    store = Store.open(tmp_path)
    with pytest.raises(errors.RecipeError, match=r"redis://app:\*\*\*@cache:6379/0\n[\s\S]*\$\{NAME\}") as caught:
        workflow.run(workflow.Run(recipe, store))
    assert "hidden" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_variable_in_the_address_of_the_look_up_is_put_in_where_it_is_opened(tmp_path, monkeypatch, free_port):
    monkeypatch.setenv("CACHE_PORT", str(free_port))
    secrets.check_lookup("redis://app:${CACHE_PASSWORD}@127.0.0.1:${CACHE_PORT}/0")
    with pytest.raises(errors.StoreError, match=f"redis://127.0.0.1:{free_port}/0"):
        open_store("redis://127.0.0.1:${CACHE_PORT}/0", tmp_path).views()


@pytest.mark.parametrize("setting", [
    f"deploy.lookup=x{CACHE}", f"data.source={{a: '{CACHE}'}}", f"data.source='{CACHE}", CACHE, f"name.x={CACHE}",
])  # fmt: skip
def test_a_setting_that_is_refused_shows_no_secret(setting):
    with pytest.raises(errors.RecipeError) as caught:
        parse(RECIPE, [setting])
    assert "hidden" not in str(caught.value)


def test_a_recipe_with_a_password_and_another_value_keeps_the_password():
    recipe = parse(RECIPE, ["data.source=postgresql://app:hidden@host/db"])
    assert api._recipe(recipe, {"seed": 7}).data.source == recipe.data.source
