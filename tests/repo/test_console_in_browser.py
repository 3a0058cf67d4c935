"""The console in a browser: silent, by keyboard, on a phone, and a change that a person makes with a key."""

import pytest

import console_store
from browser import Browser
from mlsys import registry
from mlsys.deploy import api_keys
from mlsys.web_console import facts_runs, routes
from uvicorn_server import served

BEYOND = """[...document.querySelectorAll('body *')]
    .filter(e => !e.closest('.scroll') && !e.closest('svg') && !e.closest('option'))
    .filter(e => e.getBoundingClientRect().right > document.documentElement.clientWidth + 0.5)
    .map(e => e.outerHTML.slice(0, 90))"""


@pytest.fixture(scope="module")
def browser():
    with Browser() as opened:
        yield opened


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    store = console_store.worked(tmp_path_factory.mktemp("console") / "store")
    console_store.submitted(store)
    return store


@pytest.fixture(scope="module")
def key(store):
    """A key that is there before anybody asks: the console looks for new ones once a second."""
    return api_keys.add(store, ["admin"]).text


@pytest.fixture(scope="module")
def address(store, key):
    with served(routes.app(store)) as host:
        yield f"http://{host}"


@pytest.fixture(scope="module")
def paths(store):
    return ["/", "/models/late", "/runs", f"/runs/late/{facts_runs.newest(store, 'late')['key']}", "/batch", "/api"]


@pytest.mark.parametrize("number", range(6))
@pytest.mark.parametrize("width", [320, 1200])
def test_a_page_is_silent_and_never_scrolls_sideways(browser, address, paths, number, width):
    tab = browser.visit(address + paths[number], width=width)
    tab.evaluate("document.querySelectorAll('details').forEach(each => each.open = true)")
    assert tab.evaluate(BEYOND) == []
    assert tab.complaints() == []


def test_a_person_finds_a_model_and_opens_it_by_keyboard(browser, address):
    tab = browser.visit(f"{address}/")
    tab.evaluate("document.querySelector('input[type=search]').focus()")
    tab.type("lat")
    assert tab.evaluate("document.querySelector('output').textContent") == "1 of 1"
    tab.evaluate("document.querySelector('#models tbody a').focus()")
    tab.press("Enter", "\r")
    tab.wait_for("document.querySelector('h1').textContent === 'late'")


def test_a_person_asks_what_served_at_a_time(browser, address):
    tab = browser.visit(f"{address}/models/late")
    tab.evaluate("document.querySelector('input[name=at]').value = '2099-01-01T00:00'")
    tab.click("form[method=get] button")
    tab.wait_for(
        "document.querySelector('#what-served-when table')?.caption?.textContent === 'At 2099-01-01T00:00 UTC'"
    )
    row = "document.querySelector('#what-served-when tbody tr').textContent"
    assert tab.evaluate(row).startswith("champion1")


def test_a_person_with_a_key_promotes_a_version(browser, address, store, key):
    tab = browser.visit(f"{address}/models/late")
    form = "form[action$='/promote']"
    tab.evaluate(f"document.querySelector(\"{form} [name=version]\").value = '2'")
    for name, text in (("reason", "looks better"), ("key", key)):
        tab.evaluate(f'document.querySelector("{form} [name={name}]").focus()')
        tab.type(text)
    tab.click(f"{form} button")
    tab.wait_for("document.querySelector('.facts').textContent.includes('champion is version 2')")
    assert registry.resolve(store, "late").version == 2
