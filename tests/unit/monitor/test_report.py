from __future__ import annotations

import re

import pyarrow as pa
import pytest

from mlsys.monitor import judge
from traffic import Traffic


@pytest.fixture
def world_page(world):
    traffic = [Traffic.draw(1_000, 1), Traffic.draw(1_000, 2, shift=0.8)]
    world.write(traffic)
    labels = pa.concat_tables([each.labels() for each in traffic])
    judgement = judge.compare(
        world.store, "world", world.bundle, world.folder, labels, world.recipe(), baseline=world.baseline
    )
    return (judgement.folder / "report.html").read_text()


def test_a_report_asks_for_nothing_and_says_why(world_page):
    assert not re.search(r"""(src|href)=["']?https?:""", world_page)
    for words in (
        "Decision",
        "Performance",
        "Drift",
        "Largest shifts",
        "How it is judged",
        "mean -0.",
        "Label coverage",
    ):
        assert words in world_page
