"""Clients name places below the roots, and nothing else is read or written for them."""

import pytest

from mlsys import errors
from mlsys.deploy.batch_roots import Roots

SERVED, PASSWORDS = "/srv/shared", "/etc/passwd"
SHARED = f"file://{SERVED}"


@pytest.fixture
def roots(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "secret.csv").write_text("x\n1\n")
    return Roots((str(tmp_path / "data"), "s3://bucket/scored/", SHARED))


def test_places_below_a_root_are_taken_and_relative_ones_count_from_the_first(roots, tmp_path):
    data = tmp_path / "data"
    assert roots.resolve("a.csv", "input") == f"{data}/a.csv"
    assert roots.resolve("2026/*.parquet", "input") == f"{data}/2026/*.parquet"
    for place in (f"{data}/b", "s3://bucket/scored/b", "s3://bucket/scored", f"{SERVED}/x", f"{SHARED}/x"):
        assert roots.resolve(place, "output") == place


@pytest.mark.parametrize(
    "text",
    [
        "../secret.csv",
        "a/../../secret.csv",
        PASSWORDS,
        f"file://{PASSWORDS}",
        "file://host/srv/shared/x",
        "~/secret",
        "$HOME/x",
        "s3://bucket/scored-too/a",
        "s3://bucket/other",
        "s3://bucket/scored/../other",
        "s3://bucket/scored/%2e%2e/other",
        "s3://bucket/scored/a?endpoint_override=10.0.0.1:9000",
        "s3://key:secret@bucket/scored/a",
        "gs://bucket/scored/a",
        "http://169.254.169.254/latest/meta-data",
        "sqlite:////srv/shared/a.db",
        "package://palmerpenguins/data/penguins.csv",
        "delta:///etc",
        "a\x00b",
        "a\nb",
        "..\\secret.csv",
    ],
)
def test_anything_else_is_refused_with_the_field(roots, text):
    with pytest.raises(errors.RequestError, match="batch: input") as caught:
        roots.resolve(text, "input")
    assert caught.value.violations[0]["field"] == "input"


def test_a_link_that_leads_outside_is_refused(roots, tmp_path):
    (tmp_path / "data" / "link").symlink_to(tmp_path)
    (tmp_path / "data" / "one.csv").symlink_to(tmp_path / "secret.csv")
    for text in ("link/secret.csv", "one.csv"):
        with pytest.raises(errors.RequestError, match="a place outside"):
            roots.resolve(text, "input")
    with pytest.raises(errors.RequestError, match="lies outside of the roots"):
        roots.check([str(tmp_path / "data" / "a.csv"), str(tmp_path / "data" / "one.csv")])


def test_a_place_that_a_row_names_is_no_error_but_false(roots, tmp_path):
    assert roots.holds(str(tmp_path / "data" / "photo.png"))
    assert not roots.holds("/etc/\x00passwd")
    assert not roots.holds("s3://elsewhere/photo.png")


def test_the_hint_says_where_places_lie(roots):
    with pytest.raises(errors.RequestError) as caught:
        roots.resolve("/etc/passwd", "output")
    assert str(caught.value) == (
        "batch: output\n"
        "  got:      '/etc/passwd', a place outside\n"
        f"  expected: one below: data, s3://bucket/scored/, {SHARED}\n"
        "  hint:     a path that is relative to the first of them; deploy.batch.roots of the recipe names others"
    )
