import hashlib
import json
import multiprocessing
import os
import resource
import signal
import subprocess
import sys
import threading
from pathlib import Path
from textwrap import dedent

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlsys import errors
from mlsys.store import (
    MANIFEST,
    Store,
    digest_json,
    digest_of_file,
    read_json,
    storage_error,
    verify_folder,
    write_atomic,
    write_json,
)

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=6,
)


@pytest.fixture
def store(tmp_path):
    return Store.open(tmp_path / "store")


def files_below(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def two_files(folder):
    (folder / "data").mkdir()
    (folder / "data" / "part-0.txt").write_text("first")
    (folder / "notes.txt").write_text("second")
    return {"num_rows": 2}


# Digests: literals made with coreutils, printf '%s' TEXT | sha256sum


def test_the_digest_of_json_is_that_of_its_sorted_compact_text():
    # printf '%s' '{"a":[1,2.5,null],"b":"é"}' | sha256sum
    expected = "41a039b5a690a0e490a416507920c9993f5d12a59eb496d685026408ea22b407"
    assert digest_json({"b": "é", "a": [1, 2.5, None]}) == expected


def test_the_digest_of_a_file_is_that_of_its_bytes(tmp_path):
    (tmp_path / "abc").write_bytes(b"abc")
    # FIPS 180-2, appendix B.1
    expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert digest_of_file(tmp_path / "abc") == expected


@given(st.dictionaries(st.text(max_size=4), JSON, max_size=4))
def test_the_order_of_keys_does_not_change_a_digest(value):
    assert digest_json(dict(reversed(list(value.items())))) == digest_json(value)


@given(JSON)
def test_a_value_read_back_from_json_has_the_same_digest(value):
    assert digest_json(json.loads(json.dumps(value))) == digest_json(value)


def test_the_digest_of_an_object_is_the_same_on_every_machine(store):
    # sha256sum of the manifest written by hand with printf, the digests in it by sha256sum as well
    assert store.put("snapshot", two_files) == "6e4a0673e831c31ee36ff0895ed1bd1fbd3b5a9d5c781886d1b85d1305676ade"


# Objects


def verified(store, kind, digest):
    folder = store.path(kind, digest)
    verify_folder(folder, kind, digest)
    return folder


def test_an_object_is_found_by_its_digest(store):
    digest = store.put("snapshot", two_files)
    folder = verified(store, "snapshot", digest)
    assert files_below(folder) == ["data/part-0.txt", MANIFEST, "notes.txt"]
    assert store.facts("snapshot", digest) == {"num_rows": 2}
    assert store.has("snapshot", digest)
    assert not store.has("split", digest)


def test_the_same_content_is_stored_once(store):
    first, second = store.put("snapshot", two_files), store.put("snapshot", two_files)
    assert first == second
    assert len(list((store.root / "objects" / "snapshot").iterdir())) == 1
    assert list((store.root / "staging").iterdir()) == []


def test_other_facts_are_another_object(store):
    assert store.put("snapshot", two_files) != store.put(
        "snapshot", lambda folder: {**two_files(folder), "zone": "UTC"}
    )


@given(value=JSON)
def test_a_value_is_read_back_as_it_was_stored(tmp_path_factory, value):
    store = Store.open(tmp_path_factory.mktemp("values"))
    assert store.get_json("params", store.put_json("params", value)) == value


def test_an_unknown_digest_says_what_to_do(store):
    with pytest.raises(errors.StoreError) as caught:
        store.path("bundle", "0123456789abcdef")
    assert str(caught.value) == dedent(f"""\
        store: bundle '0123456789ab'
          got:      not in the store
          expected: a folder in {store.root / "objects" / "bundle"}
          hint:     run the step that makes it again""")


def test_a_failing_writer_leaves_nothing(store):
    def fail(folder):
        two_files(folder)
        message = "the source went away"
        raise errors.SourceError(message)

    with pytest.raises(errors.SourceError, match="went away"):
        store.put("snapshot", fail)
    assert files_below(store.root) == []


# Damage


@pytest.mark.parametrize(
    ("damage", "part"),
    [
        (lambda folder: (folder / "notes.txt").write_text("secone"), "file 'notes.txt'"),
        (lambda folder: (folder / "data" / "part-0.txt").unlink(), "file 'data/part-0.txt'"),
        (lambda folder: os.truncate(folder / "notes.txt", 0), "file 'notes.txt'"),
        (lambda folder: edit_fact(folder / MANIFEST), "got:      another manifest"),
        (lambda folder: os.truncate(folder / MANIFEST, 20), f"file '{MANIFEST}'"),
        (lambda folder: (folder / MANIFEST).unlink(), "not in the store"),
    ],
    ids=["one bit", "a file gone", "an empty file", "a fact", "half a manifest", "no manifest"],
)
def test_damage_is_found_and_named(store, damage, part):
    digest = store.put("snapshot", two_files)
    damage(store.path("snapshot", digest))
    with pytest.raises(errors.StoreError) as caught:
        verified(store, "snapshot", digest)
    assert part in str(caught.value)


def test_what_is_left_of_a_deleted_object_is_replaced(store):
    digest = store.put("snapshot", two_files)
    (store.path("snapshot", digest) / MANIFEST).unlink()
    assert store.put("snapshot", two_files) == digest
    assert files_below(verified(store, "snapshot", digest)) == ["data/part-0.txt", MANIFEST, "notes.txt"]
    assert list((store.root / "staging").iterdir()) == []


def test_a_damaged_object_says_how_it_is_repaired(store):
    digest = store.put("snapshot", two_files)
    folder = store.path("snapshot", digest)
    (folder / "notes.txt").unlink()
    with pytest.raises(errors.StoreError) as caught:
        verified(store, "snapshot", digest)
    assert str(caught.value) == dedent(f"""\
        store: snapshot '{digest[:12]}', file 'notes.txt'
          got:      missing or changed bytes
          expected: SHA-256 {hashlib.sha256(b"second").hexdigest()[:12]}…
          hint:     delete {folder} and run again""")


def edit_fact(manifest):
    value = json.loads(manifest.read_text())
    manifest.write_text(json.dumps({**value, "facts": {"num_rows": 3}}))


def test_half_a_json_file_is_an_error_and_never_half_a_value(tmp_path):
    (tmp_path / "value.json").write_text('{"a": 1')
    with pytest.raises(errors.StoreError, match="delete it and run again"):
        read_json(tmp_path / "value.json")
    (tmp_path / "value.json").write_bytes(b'{"a": "\xff"}')
    with pytest.raises(errors.StoreError, match="expected: JSON"):
        read_json(tmp_path / "value.json")
    with pytest.raises(errors.StoreError, match="No such file"):
        read_json(tmp_path / "nothing.json")


# Writing: at any moment of a crash there is the old output or the new one


def test_a_write_replaces_the_whole_file_with_the_mode_asked_for(tmp_path):
    path = tmp_path / "inner" / "token"
    write_atomic(path, b"old and longer")
    write_atomic(path, b"new", mode=0o600)
    assert path.read_bytes() == b"new"
    assert path.stat().st_mode & 0o777 == 0o600
    assert files_below(tmp_path) == ["inner/token"]


def limited_write(root, code):
    """Run `code` in a process in which the operating system refuses files above 64 KiB (EFBIG)."""
    program = f"from pathlib import Path\nfrom mlsys.store import *\nroot = Path({str(root)!r})\n" + dedent(code)

    def limit():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, 1 << 16))

    return subprocess.run(
        [sys.executable, "-c", program], preexec_fn=limit, capture_output=True, text=True, check=False, timeout=60
    )


def test_a_write_that_the_disk_refuses_keeps_the_old_file(tmp_path):
    write_json(tmp_path / "value.json", {"old": True})
    done = limited_write(tmp_path, "write_atomic(root / 'value.json', b'x' * (1 << 20))")
    assert "mlsys.errors.StoreError: store: 'value.json'" in done.stderr
    assert "File too large" in done.stderr
    assert read_json(tmp_path / "value.json") == {"old": True}
    assert files_below(tmp_path) == ["value.json"]


def test_an_object_that_the_disk_refuses_is_not_there_and_the_old_one_is(tmp_path):
    store = Store.open(tmp_path)
    kept = store.put("snapshot", two_files)
    before = files_below(tmp_path)
    done = limited_write(
        tmp_path,
        """
        def write(folder):
            (folder / "small.txt").write_text("fits")
            (folder / "large.bin").write_bytes(b"x" * (1 << 20))

        Store.open(root).put("snapshot", write)
        """,
    )
    assert "mlsys.errors.StoreError" in done.stderr
    assert files_below(tmp_path) == before
    verified(store, "snapshot", kept)


def test_a_full_disk_is_named_and_loses_nothing(store):
    kept = store.put("snapshot", two_files)
    with pytest.raises(OSError, match="No space left") as full, Path("/dev/full").open("wb", buffering=0) as device:
        device.write(b"x")  # the device that the system keeps for this: every write finds the disk full
    assert str(storage_error(store.root / "steps" / "collect" / "key.json", full.value)) == dedent("""\
        store: writing 'key.json'
          got:      no space left on the disk
          expected: room for the output
          hint:     free some space and run again; what was there before is unchanged""")

    def too_much(folder):
        (folder / "large.bin").symlink_to("/dev/full")
        (folder / "large.bin").write_bytes(b"x")

    with pytest.raises(errors.StoreError, match="no space left on the disk"):
        store.put("snapshot", too_much)
    verified(store, "snapshot", kept)
    assert list((store.root / "staging").iterdir()) == []


def test_a_write_that_is_refused_half_way_loses_nothing(tmp_path):
    store = Store.open(tmp_path)
    kept = store.put("snapshot", two_files)
    store.remember("collect", "key", {"digest": kept})

    def too_much(folder):
        (folder / "large.bin").write_bytes(b"x" * (2 << 20))

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, before[1]))
    try:
        with pytest.raises(errors.StoreError, match="File too large"):
            write_atomic(store.root / "steps" / "collect" / "key.json", b"x" * (2 << 20))
        with pytest.raises(errors.StoreError, match="File too large"):
            store.put("snapshot", too_much)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert store.recall("collect", "key") == {"digest": kept}
    verified(store, "snapshot", kept)
    assert list((store.root / "staging").iterdir()) == []


def test_a_writer_that_is_killed_leaves_the_old_file_and_no_object(tmp_path):
    store = Store.open(tmp_path)
    write_json(tmp_path / "value.json", {"old": True})
    program = dedent(f"""\
        import os, signal
        from mlsys.store import Store

        def write(folder):
            (folder / "half.txt").write_text("half")
            os.kill(os.getpid(), signal.SIGKILL)

        Store.open({str(tmp_path)!r}).put("snapshot", write)
        """)
    done = subprocess.run([sys.executable, "-c", program], check=False, timeout=60)
    assert done.returncode == -signal.SIGKILL
    assert read_json(tmp_path / "value.json") == {"old": True}
    assert not (store.root / "objects").exists()
    assert store.has("snapshot", store.put("snapshot", two_files))


# Several writers


def put_together(root, barrier, results):
    store = Store.open(root)

    def write(folder):
        facts = two_files(folder)
        barrier.wait()
        return facts

    results.append(store.put("snapshot", write))


def test_two_threads_with_the_same_content_get_the_same_whole_object(store):
    barrier, results = threading.Barrier(2), []
    threads = [threading.Thread(target=put_together, args=(store.root, barrier, results)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 2
    assert results[0] == results[1]
    verified(store, "snapshot", results[0])
    assert list((store.root / "staging").iterdir()) == []


def test_two_processes_with_the_same_content_get_the_same_whole_object(store):
    context = multiprocessing.get_context("spawn")
    with context.Manager() as manager:
        barrier, results = context.Barrier(2), manager.list()
        workers = [context.Process(target=put_together, args=(store.root, barrier, results)) for _ in range(2)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        assert [worker.exitcode for worker in workers] == [0, 0]
        assert len(set(results)) == 1
        verified(store, "snapshot", results[0])


def test_readers_see_a_whole_file_while_it_is_written(tmp_path):
    path, texts = tmp_path / "value.json", [b"a" * 4096, b"b" * 8192]
    write_atomic(path, texts[0])
    ended = threading.Event()

    def write():
        for turn in range(60):
            write_atomic(path, texts[turn % 2])
        ended.set()

    writer = threading.Thread(target=write)
    writer.start()
    seen = set()
    while not ended.is_set():
        seen.add(path.read_bytes())
    writer.join()
    assert seen <= set(texts)


# Steps and runs


def test_a_step_is_remembered_by_its_key(store):
    assert store.recall("collect", "k1") is None
    store.remember("collect", "k1", {"snapshot": "abc"})
    store.remember("collect", "k1", {"snapshot": "def"})
    assert store.recall("collect", "k1") == {"snapshot": "def"}
    assert store.recall("explore", "k1") is None


def test_the_folder_of_a_run_is_made_once(store):
    assert store.run_folder("demo") == store.run_folder("demo")
    assert store.run_folder("demo").is_dir()


def test_the_root_comes_from_the_environment_else_from_where_one_is(tmp_path, monkeypatch):
    monkeypatch.setenv("MLSYS_STORE", str(tmp_path / "there"))
    assert Store.open().root == tmp_path / "there"
    monkeypatch.delenv("MLSYS_STORE")
    monkeypatch.chdir(tmp_path)
    assert Store.open().root == tmp_path / ".mlsys"


def test_a_root_that_is_a_file_is_an_error_of_the_store(tmp_path):
    (tmp_path / "taken").write_text("")
    with pytest.raises(errors.StoreError, match="a readable and writable store"):
        Store.open(tmp_path / "taken")


def test_opening_a_store_makes_its_root_and_nothing_else(tmp_path):
    store = Store.open(tmp_path / "a" / "b")
    assert list(Path(store.root).iterdir()) == []
