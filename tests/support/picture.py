"""Draw the pictures of docs as Chromium shows their pages: a report of the flights, and the console of a small store.

``python tests/support/picture.py`` (``make picture``) writes docs/report.png, docs/console.png and
docs/console-model.png; with the word ``console``, those of the console alone. It needs Debian's chromium.
"""

from __future__ import annotations

import base64
import io
import sys
import tempfile
from pathlib import Path

from PIL import Image

import mlsys
from browser import Browser
from mlsys import bundle, locks, registry
from mlsys.store import Store
from mlsys.web_console import routes
from shop import DRIFT, Shop
from uvicorn_server import served

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
WIDTH, HEIGHT = 1280, 920
CARDS = (100, 0, 1166, HEIGHT)
COLOURS = 64
SHOWN = """
const cards = [...document.querySelectorAll('#columns > details')];
const at = cards.findIndex(card => card.querySelector('summary').textContent.startsWith('carrier'));
cards[at - 1].scrollIntoView();
"""
"""The card of a category, and of the number that tells a little more than it."""

OWN_FOLDER = """
const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
while (texts.nextNode()) {
    texts.currentNode.data = texts.currentNode.data.replaceAll('FOLDER', '.mlsys').replaceAll('WHO', 'you');
}
"""
"""The folder of the store, and who made it, as a person has them who did not make it for a picture."""

WEEKS = DRIFT + 4
"""Weeks of the shop: its world has changed, and the monitor has said so."""

FOLDED = "document.querySelectorAll('details').forEach(each => each.open = false)"


def drawn(tab, crop: tuple[int, int, int, int], folder: Path | None = None) -> bytes:
    """What a tab shows as a PNG of few colours."""
    if folder is not None:
        tab.call("Emulation.setScrollbarsHidden", hidden=True)
        tab.evaluate(FOLDED)
        tab.evaluate(OWN_FOLDER.replace("FOLDER", str(folder)).replace("WHO", locks.who()))
    tab.settle()
    shot = tab.call("Page.captureScreenshot", format="png")["data"]
    picture = Image.open(io.BytesIO(base64.b64decode(shot))).convert("RGB").crop(crop)
    stream = io.BytesIO()
    picture.quantize(COLOURS, dither=Image.Dither.NONE).save(stream, "PNG", optimize=True)
    return stream.getvalue()


def report(browser: Browser) -> dict[str, bytes]:
    """Two cards of the columns of the flights, explored without a cluster."""
    with tempfile.TemporaryDirectory() as store:
        done = mlsys.run(ROOT / "jobs" / "recipes" / "flights.yaml", "explore", store=store, cluster=False)
        tab = browser.open(done.reports["explore"], WIDTH, HEIGHT)
        tab.evaluate(SHOWN)
        return {"report.png": drawn(tab, CARDS)}


def console(browser: Browser) -> dict[str, bytes]:
    """The list of models and the page of one, of a store whose models were trained, monitored and maintained here."""
    with tempfile.TemporaryDirectory() as folder:
        shop = Shop(Path(folder)).begin()
        penguins(shop.store)
        while shop.week < WEEKS:
            shop.live()
            shop.maintain()
        with served(routes.app(shop.store)) as host:
            crops = {
                "console.png": ("/", (0, 0, WIDTH, 720)),
                "console-model.png": ("/models/shop", (0, 0, WIDTH, 2000)),
            }
            return {
                name: drawn(browser.visit(f"http://{host}{path}", crop[2], crop[3]), crop, shop.store.root)
                for name, (path, crop) in crops.items()
            }


def penguins(store: Store) -> None:
    """A second model, of the recipe of the penguins, with what is quick."""
    quick = {"selection.families": ["linear"], "tune.trials": 0}
    done = mlsys.run(
        ROOT / "jobs" / "recipes" / "penguins.yaml", "evaluate", set=quick, store=store.root, cluster=False
    )
    metrics = {name: value for name, value in done.metrics.items() if isinstance(value, float)}
    facts = {"family": done.family, "metric": next(iter(metrics))}
    version = registry.register(store, "penguins", bundle.open(store, done.bundle), metrics=metrics, facts=facts)
    registry.set_alias(store, "penguins", "champion", version, "the first")


def main() -> None:
    """Draw all pictures, or those of the console."""
    parts = [console] if sys.argv[1:] == ["console"] else [report, console]
    with Browser() as browser:
        for part in parts:
            for name, data in part(browser).items():
                (DOCS / name).write_bytes(data)
                print(f"docs/{name}: {len(data):,} bytes")


if __name__ == "__main__":
    main()
