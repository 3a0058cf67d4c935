"""When the rows are collected again, without Ray: in this process."""

from __future__ import annotations

import pytest

from mlsys import errors, recipe, workflow
from mlsys.store import Store
from mlsys.workflow import Run

CONTRACT = "columns:\n- {name: x, type: int64, kind: numeric, maximum: 50}\n- {name: y, type: int64, kind: numeric}\n"


@pytest.fixture
def collect(tmp_path):
    """Collect a hundred rows under a contract; `data` goes beside it."""
    (tmp_path / "a.csv").write_text("x,y\n" + "".join(f"{i},{i % 2}\n" for i in range(100)))
    (tmp_path / "contract.yaml").write_text(CONTRACT)
    text = f"{{source: {tmp_path}/a.csv, contract: {tmp_path}/contract.yaml, max_bad_fraction: 1}}"

    def run():
        tree = recipe.parse(f"{{name: ruled, target: y, data: {text}}}")
        return workflow.run(Run(tree, Store.open(tmp_path / "store")), until="collect").records["collect"]

    return run


def test_an_edited_contract_is_enforced_though_the_source_stands_still(collect, tmp_path):
    assert collect()["taken"]["num_quarantined"] == 49
    assert collect()["seconds"] == collect()["seconds"]  # the same record: nothing was done again
    (tmp_path / "contract.yaml").write_text(CONTRACT.replace("50", "60"))
    assert collect()["taken"]["num_quarantined"] == 39


def test_a_contract_that_is_gone_or_broken_is_told_though_the_source_stands_still(collect, tmp_path):
    collect()
    (tmp_path / "contract.yaml").write_text(CONTRACT.replace("maximum", "maximun"))
    with pytest.raises(errors.ContractError, match="did you mean 'maximum'"):
        collect()
    (tmp_path / "contract.yaml").unlink()
    with pytest.raises(errors.ContractError, match="No such file"):
        collect()
