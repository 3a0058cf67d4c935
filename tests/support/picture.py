"""Draw docs/report.png, the picture of a report in README: the exploration of the flights, as Chromium shows it.

``python tests/support/picture.py`` writes it (``make picture``); it needs Debian's chromium.
"""

from __future__ import annotations

import base64
import io
import tempfile
from pathlib import Path

from PIL import Image

import mlsys
from browser import Browser

ROOT = Path(__file__).parents[2]
PICTURE = ROOT / "docs" / "report.png"
WIDTH, HEIGHT = 1280, 920
CARDS = (100, 0, 1166, HEIGHT)
COLOURS = 64
SHOWN = """
const cards = [...document.querySelectorAll('#columns > details')];
const at = cards.findIndex(card => card.querySelector('summary').textContent.startsWith('carrier'));
cards[at - 1].scrollIntoView();
"""
"""The card of a category, and of the number that tells a little more than it."""


def draw(page: Path) -> bytes:
    """Two cards of the columns as a PNG of few colours."""
    with Browser() as browser:
        tab = browser.open(page, WIDTH, HEIGHT)
        tab.evaluate(SHOWN)
        tab.settle()
        shot = tab.call("Page.captureScreenshot", format="png")["data"]
    picture = Image.open(io.BytesIO(base64.b64decode(shot))).convert("RGB").crop(CARDS)
    stream = io.BytesIO()
    picture.quantize(COLOURS, dither=Image.Dither.NONE).save(stream, "PNG", optimize=True)
    return stream.getvalue()


def main() -> None:
    """Explore the flights without a cluster and draw the page."""
    with tempfile.TemporaryDirectory() as store:
        done = mlsys.run(ROOT / "jobs" / "recipes" / "flights.yaml", "explore", store=store, cluster=False)
        PICTURE.write_bytes(draw(done.reports["explore"]))
    print(f"{PICTURE.relative_to(ROOT)}: {PICTURE.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
