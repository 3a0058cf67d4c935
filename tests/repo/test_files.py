import hashlib
import re
import sys

import pytest

TEXT = {".py", ".md", ".toml", ".yaml", ".yml", ".lock", ".txt", ".json", ".csv", ".sh", ".html", ""}

# Folders that exist on somebody's machine and nowhere else, and hosts that only that machine reaches.
MACHINE = re.compile(
    r"""(?<![\w.}])(?:
        /(?:root|home/\w+|Users/\w+)/ | file:///
        | https?://(?!localhost|127\.0\.0\.1|example)[\w.-]*(?:pypi|artifactory|nexus|devpi|simple)[\w.-]*(?::\d+)?/
    )""",
    re.VERBOSE,
)
PUBLIC = re.compile(r"https://pypi\.org/project/")


def test_no_file_names_a_machine_or_a_private_index(root, tracked):
    found = [
        f"{path}: {match[0]}"
        for path in tracked
        if path.suffix in TEXT and path.parts[:2] != ("tests", "repo")
        for match in MACHINE.finditer(PUBLIC.sub("", (root / path).read_text(encoding="utf-8")))
    ]
    assert found == []


@pytest.mark.parametrize(
    "text",
    [
        "see /home/ann/project",
        "'/home/ann/data.csv'",
        "/Users/bob/x",
        "-f file:///srv/wheels",
        "http://pypi.corp:8080/simple/",
    ],
)
def test_a_path_of_a_machine_would_be_found(text):
    assert MACHINE.search(text)


@pytest.mark.parametrize("text", ["https://github.com/ray-project/ray", "http://127.0.0.1:8000/", "src/home/page"])
def test_an_ordinary_address_is_no_finding(text):
    assert not MACHINE.search(text)


def test_no_large_or_binary_file_is_in_the_repository(root, tracked):
    sizes = {str(path): (root / path).stat().st_size for path in tracked}
    assert {path: size for path, size in sizes.items() if size > 256 * 1024} == {}
    assert [str(path) for path in tracked if path.suffix in {".pkl", ".pickle", ".parquet", ".db", ".ubj"}] == []


def test_the_only_pictures_are_those_that_are_drawn_here_below_150_kilobytes(root, tracked):
    pictures = [path.as_posix() for path in tracked if path.suffix in {".png", ".jpg", ".jpeg", ".gif", ".svg"}]
    assert pictures == ["docs/console-model.png", "docs/console.png", "docs/report.png"]
    assert {path: size for path in pictures if (size := (root / path).stat().st_size) >= 150_000} == {}


def test_jobs_are_thin_and_shadow_no_standard_module(root):
    for path in (root / "jobs").glob("*.py"):
        assert len(path.read_text().splitlines()) <= 80, path.name
        assert path.stem not in sys.stdlib_module_names, path.name


def test_make_test_runs_every_tier_once(root):
    lines = (root / "Makefile").read_text().split("\ntest:")[1].split("\n\n")[0]
    units = re.search(r"^UNITS = .*$", (root / "Makefile").read_text(), re.MULTILINE)[0]
    tiers = {path.relative_to(root).parts[1] for path in (root / "tests").rglob("test_*.py")}
    assert sorted(re.findall(r"tests/(\w+)", lines.replace("$(UNITS)", units))) == sorted(tiers)


def test_the_licence_is_apache_2_in_full(root):
    # Of https://www.apache.org/licenses/LICENSE-2.0.txt
    digest = "cfc7749b96f63bd31c3c42b5c471bf756814053e847c10f3eb003417bc523d30"
    assert hashlib.sha256((root / "LICENSE").read_bytes()).hexdigest() == digest


def test_the_changelog_has_a_place_for_what_comes_next(root, project):
    headings = re.findall(r"^## \[(.+?)\]", (root / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert headings[0] == "Unreleased"
    kinds = set(re.findall(r"^### (.+)$", (root / "CHANGELOG.md").read_text(), re.MULTILINE))
    assert kinds <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}


def test_the_version_stands_once(project):
    import mlsys

    assert project["project"]["version"] == mlsys.__version__
