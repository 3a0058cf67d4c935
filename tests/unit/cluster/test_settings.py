import os
import shutil
import tempfile
from pathlib import Path

import pytest

from mlsys import errors
from mlsys.cluster import settings


@pytest.fixture
def temporary(monkeypatch):
    """Set the system's temporary folder."""

    def use(folder):
        monkeypatch.delenv("RAY_TMPDIR", raising=False)
        monkeypatch.setattr(tempfile, "tempdir", str(folder))

    return use


def test_rays_folder_is_the_users_own_and_closed_to_others(temporary):
    folder = Path(tempfile.mkdtemp(prefix="t-", dir="/tmp"))
    temporary(folder)
    made = settings.temporary_folder()
    assert made == folder / f"mlsys-{os.getuid()}" / "ray"
    assert made.parent.stat().st_mode & 0o777 == 0o700
    shutil.rmtree(folder)


def test_a_temporary_folder_too_long_for_sockets_is_not_used(temporary):
    temporary("/tmp/" + "x" * 60)
    assert settings.temporary_folder() == Path(f"/tmp/mlsys-{os.getuid()}/ray")


def test_a_temporary_folder_that_cannot_be_written_is_told(temporary):
    temporary("/proc/nothing")
    with pytest.raises(errors.ClusterError, match=r"set RAY_TMPDIR to a folder of yours"):
        settings.temporary_folder()
