import pytest

import console_store


@pytest.fixture
def store(tmp_path):
    """Two versions of `late`, of which the second was rolled back; two runs, the last failed; a judgement."""
    return console_store.worked(tmp_path / "store")
