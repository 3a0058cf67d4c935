"""The ledger under crashes: a line is whole or was not written, and nothing that was is lost."""

import json
import os
import resource
import shutil

import pytest

from endpoint_files import model
from mlsys import errors, registry
from mlsys.registry import ledger
from mlsys.store import Store


@pytest.fixture
def store(tmp_path):
    """A store whose last line holds characters of two and three bytes."""
    store = Store.open(tmp_path / "store")
    for letter in "ab":
        registry.register(store, "late", model(letter))
    registry.set_alias(store, "late", "champion", 1, "é ☃ é")
    return store


def test_a_line_torn_at_any_byte_counts_as_not_written(store, tmp_path, caplog):
    file = ledger.path(store)
    lines = file.read_bytes().splitlines(keepends=True)
    whole, last = b"".join(lines[:-1]), lines[-1]
    for end in range(1, len(last)):
        file.write_bytes(whole + last[:end])
        if end < len(last) - 1:  # the line is whole but for its end
            assert registry.meant(store, "late", "champion") is None
            assert [entry.version for entry in registry.versions(store, "late")] == [1, 2]


def test_a_ledger_is_read_as_it_is_whatever_was_read_before(store, tmp_path):
    """Lines that were read are not parsed again, as long as the file begins with their bytes."""
    file = ledger.path(store)
    whole = file.read_bytes()
    first = ledger.read(store)
    assert ledger.read(store) == first
    ledger.read(store).clear()
    with file.open("ab") as opened:
        opened.write(whole.splitlines(keepends=True)[-1].replace(b'"version": 1', b'"version": 2'))
    assert [move.version for move in ledger.read(store)] == [1, 2, 1, 1, 2]
    file.write_bytes(whole.replace(b'"version": 1', b'"version": 7'))  # as long as before
    assert [move.version for move in ledger.read(store)] == [7, 2, 7, 7]
    file.write_bytes(whole[: whole.index(b"\n") + 1])
    assert ledger.read(store) == first[:1]
    assert ledger.read(Store.open(tmp_path / "other")) == []
    file.write_bytes(whole + b"{}\n" + whole)
    for _ in range(2):
        with pytest.raises(errors.RegistryError, match=r"line 5 of ledger\.jsonl"):
            ledger.read(store)


@pytest.mark.parametrize("torn", [b'{"kind": "move", "reason": "\xc3', b"\0\0\0\0", b'{"kind": "mo\n', b"\xff\n"])
def test_what_a_crash_cut_off_is_set_aside_by_the_next_writer_and_told(store, torn, caplog):
    file = ledger.path(store)
    whole = file.read_bytes()
    file.write_bytes(whole + torn)
    assert registry.resolve(store, "late").version == 1
    registry.set_alias(store, "late", "champion", 2, "better")
    assert registry.resolve(store, "late").version == 2
    assert file.read_bytes().startswith(whole)
    assert all(json.loads(line) for line in file.read_bytes().splitlines())
    assert (file.parent / "ledger.torn").read_bytes() == torn + b"\n"
    (record,) = caplog.records
    assert f"a line that a crash cut off ({len(torn)} bytes) was set aside in " in record.getMessage()


def test_a_full_disk_leaves_the_ledger_as_it_was(store):
    file = ledger.path(store)
    whole = file.read_bytes()
    child = os.fork()
    if child == 0:
        import signal

        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(whole) + 40, len(whole) + 40))
        try:
            registry.set_alias(store, "late", "champion", 2, "better")
        except errors.StoreError:
            os._exit(3)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 3
    assert file.read_bytes() == whole


def test_a_line_of_an_older_mlsys_is_read_and_fields_of_a_later_one_are_passed_over(store):
    old = {"kind": "move", "at": "2024-01-01T00:00:00+00:00", "name": "late", "version": 2, "digest": "b" * 64}
    line = json.dumps({**old, "alias": "champion", "reason": "old", "weather": "fine"})
    with ledger.path(store).open("a") as file:
        file.write(line + "\n")
    registry.set_alias(store, "late", "challenger", 1, "after it")
    assert registry.resolve(store, "late").version == 2


def test_a_kind_of_a_later_mlsys_is_refused_and_never_set_aside_as_torn(store):
    later = {"kind": "paused", "at": "2024-01-01T00:00:00+00:00", "name": "late", "version": 2, "digest": "b" * 64}
    with ledger.path(store).open("a") as file:
        file.write(json.dumps(later) + "\n")
    before = ledger.path(store).read_bytes()
    for change in (registry.versions, lambda *_: registry.set_alias(store, "late", "champion", 2, "better")):
        with pytest.raises(errors.RegistryError, match=r"the kind 'paused'[\s\S]*use the mlsys that wrote it"):
            change(store, "late")
    assert ledger.path(store).read_bytes() == before
    assert not ledger.path(store).with_name("ledger.torn").exists()


def test_a_version_is_found_before_an_alias_that_reads_like_one(store):
    """Aliases that were made before they were refused."""
    with ledger.path(store).open("a") as file:
        move = {"kind": "move", "at": "2024-01-01T00:00:00+00:00", "name": "late", "version": 1, "digest": "a" * 64}
        file.write(json.dumps({**move, "alias": "2", "reason": ""}) + "\n")
    assert registry.resolve(store, "late", "2").version == 2


@pytest.mark.parametrize("alias", ["2", "v2", "V10", "deadbeef", "latest", "", "a/b", "é"])
def test_an_alias_that_reads_as_something_else_is_refused(store, alias):
    before = ledger.path(store).read_bytes()
    with pytest.raises(errors.RegistryError, match=f"registry: alias '{alias}'"):
        registry.set_alias(store, "late", alias, 1, "no")
    assert ledger.path(store).read_bytes() == before


@pytest.mark.parametrize("name", ["v2", "gateway", "deadbeef"])
def test_a_name_that_is_a_route_or_a_digest_is_refused(store, name):
    with pytest.raises(errors.RegistryError, match="expected: another name"):
        registry.register(store, name, model("a"))


def test_a_rolled_back_bundle_is_known_until_it_is_put_back(store):
    digest = "b" * 64
    registry.set_alias(store, "late", "champion", 2, "better")
    assert registry.rolled_back(store, "late", "champion", digest) is None
    registry.rollback(store, "late", "champion", "worse")
    assert registry.rolled_back(store, "late", "champion", digest).reason == "worse"
    assert registry.rolled_back(store, "late", "champion", "a" * 64) is None
    registry.set_alias(store, "late", "champion", 2, "mended")
    assert registry.rolled_back(store, "late", "champion", digest) is None


def test_one_bundle_may_have_two_names(store):
    assert registry.register(store, "later", model("b")) == 1
    assert registry.resolve(store, "later", 1).digest == registry.resolve(store, "late", 2).digest


def test_a_copied_store_goes_on_where_the_other_was(store, tmp_path):
    copy = Store(shutil.copytree(store.root, tmp_path / "copy"))
    assert registry.register(copy, "late", model("c")) == 3
