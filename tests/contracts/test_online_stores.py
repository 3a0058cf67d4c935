"""What every online store promises, asked of SQLite and of a real Redis server."""

from __future__ import annotations

import threading

import pytest

from mlsys import errors
from mlsys.features.online.lookup import open_store
from mlsys.features.online.online_store import Change, StoreState

VIEW, OTHER = "flights/weather/1", "flights/planes/2"


@pytest.fixture(params=["sqlite", "redis"])
def address(request):
    return "sqlite" if request.param == "sqlite" else request.getfixturevalue("redis_server")


@pytest.fixture
def connect(address, tmp_path):
    """Opens the store as another process would; it is empty at first."""
    store = open_store(address, tmp_path)
    for view in store.views():
        store.drop(view)
    return lambda: open_store(address, tmp_path)


@pytest.fixture
def store(connect):
    return connect()


def put(store, view, values, *, whole=False, expire_before=None, **facts):
    """Write values of keys as (newest, value)."""
    store.update(view, list(values), lambda _: Change(facts, values, whole, expire_before))


def values(store, view, *keys):
    return store.read({view: keys})[view].values


def test_a_view_that_was_never_published_has_no_facts_and_no_values(store):
    assert store.read({VIEW: ["a"]}) == {VIEW: StoreState(None, {})}
    assert store.views() == []


def test_what_was_written_is_read_byte_for_byte_by_another_connection(store, connect):
    blob = bytes(range(256)) * 50
    put(store, VIEW, {'["EWR", 1]': (5, blob), '["Zürich"]': (6, b"")}, newest_us=2**52, tables=["x"])
    state = connect().read({VIEW: ['["EWR", 1]', '["Zürich"]', '["nobody"]']})[VIEW]
    assert state.values == {'["EWR", 1]': blob, '["Zürich"]': b""}
    assert state.facts == {"newest_us": 2**52, "tables": ["x"]}


def test_views_do_not_mix_and_are_read_together(store):
    put(store, VIEW, {"k": (1, b"weather")}, n=1)
    put(store, OTHER, {"k": (1, b"plane")}, n=2)
    found = store.read({VIEW: ["k"], OTHER: ["k", "l"], "flights/none/3": ["k"]})
    assert [state.values for state in found.values()] == [{"k": b"weather"}, {"k": b"plane"}, {}]
    assert store.views() == sorted([VIEW, OTHER])


def test_an_update_replaces_its_keys_and_keeps_the_others(store):
    put(store, VIEW, {"a": (1, b"old"), "b": (1, b"stays")})
    put(store, VIEW, {"a": (2, b"new")})
    assert values(store, VIEW, "a", "b") == {"a": b"new", "b": b"stays"}


def test_an_update_sees_the_state_that_it_changes_and_may_leave_it(store):
    put(store, VIEW, {"a": (1, b"1")}, n=1)
    seen = []
    store.update(VIEW, ["a", "b"], seen.append)
    assert seen == [StoreState({"n": 1}, {"a": b"1"})]
    assert store.read({VIEW: ["a"]})[VIEW] == StoreState({"n": 1}, {"a": b"1"})


def test_a_whole_update_leaves_nothing_from_before(store):
    put(store, VIEW, {"a": (1, b"1"), "b": (1, b"2")}, n=1)
    put(store, VIEW, {"b": (2, b"3")}, whole=True)
    assert store.read({VIEW: ["a", "b"]})[VIEW] == StoreState({}, {"b": b"3"})


def test_keys_expire_by_the_newest_of_their_values(store):
    put(store, VIEW, {"a": (10, b"1"), "b": (20, b"2"), "c": (5, b"3")})
    put(store, VIEW, {"c": (30, b"4")}, expire_before=20)
    assert values(store, VIEW, "a", "b", "c") == {"b": b"2", "c": b"4"}
    put(store, VIEW, {}, expire_before=31)
    assert values(store, VIEW, "a", "b", "c") == {}


def test_an_update_that_fails_half_way_changes_nothing(store):
    put(store, VIEW, {"a": (1, b"1")}, n=1)

    def fail(_):
        raise errors.ContractError("no")

    with pytest.raises(errors.ContractError):
        store.update(VIEW, ["a"], fail)
    unfit = Change({"n": 2}, {"a": (2, b"2"), "b": (2, object())})
    with pytest.raises(errors.StoreError):
        store.update(VIEW, ["a", "b"], lambda _: unfit)
    assert store.read({VIEW: ["a", "b"]})[VIEW] == StoreState({"n": 1}, {"a": b"1"})
    put(store, VIEW, {"a": (3, b"3")}, n=3)
    assert values(store, VIEW, "a") == {"a": b"3"}


def test_a_reader_never_sees_half_an_update(store, connect):
    """Two keys are always written alike, so a reader must always find them alike."""
    keys = [f"k{n}" for n in range(50)]
    put(store, VIEW, dict.fromkeys(keys, (0, b"0")), n=0)
    done, unlike, looks = threading.Event(), [], []

    def look():
        reader = connect()
        while not done.is_set():
            state = reader.read({VIEW: keys})[VIEW]
            looks.append(len(state.values))
            if len(set(state.values.values())) != 1 or state.facts != {"n": int(state.values["k0"])}:
                unlike.append(state)

    threads = [threading.Thread(target=look) for _ in range(2)]
    for thread in threads:
        thread.start()
    for n in range(1, 40):
        put(store, VIEW, dict.fromkeys(keys, (n, str(n).encode())), whole=n % 2 == 0, n=n)
    done.set()
    for thread in threads:
        thread.join()
    assert looks
    assert not unlike


def test_writers_at_once_lose_nothing(store, connect):
    def count():
        writer = connect()
        for _ in range(20):
            writer.update(
                VIEW, ["n"], lambda state: Change({}, {"n": (1, str(int(state.values.get("n", b"0")) + 1).encode())})
            )

    threads = [threading.Thread(target=count) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert values(store, VIEW, "n") == {"n": b"60"}


def test_the_name_of_a_state_tells_every_write_of_others_and_of_its_own(store, connect):
    other = connect()
    put(other, VIEW, {"k": (1, b"1")})
    names = [store.read_versioned({})[0]]
    assert store.read_versioned({VIEW: ["k"]}) == (names[0], {VIEW: StoreState({}, {"k": b"1"})})
    for writer, value in ((other, b"2"), (store, b"3"), (other, b"4")):
        put(writer, VIEW, {"k": (1, value)})
        name, states = store.read_versioned({VIEW: ["k"]})
        assert states[VIEW].values == {"k": value}
        assert store.read_versioned({})[0] == name
        names.append(name)
    other.drop(VIEW)
    names.append(store.read_versioned({})[0])
    assert len(set(names)) == 5


def test_a_view_can_be_dropped(store):
    put(store, VIEW, {"a": (1, b"1")})
    put(store, OTHER, {"a": (1, b"1")})
    store.drop(VIEW)
    assert store.views() == [OTHER]
    assert store.read({VIEW: ["a"]})[VIEW] == StoreState()


def test_many_keys_fit_into_one_update_and_one_read(store):
    many = {f"key {n}": (n, str(n).encode()) for n in range(12_000)}
    put(store, VIEW, many)
    assert values(store, VIEW, *many) == {key: value for key, (_, value) in many.items()}


def test_a_damaged_file_is_named(tmp_path):
    (tmp_path / "online").mkdir()
    (tmp_path / "online" / "features.sqlite").write_bytes(b"no database" * 100)
    with pytest.raises(errors.StoreError, match=r"(?s)features\.sqlite.*mlsys materialize"):
        open_store("sqlite", tmp_path).read({VIEW: ["a"]})


def test_a_server_that_is_not_there_is_named_without_its_password(tmp_path, free_port):
    with pytest.raises(errors.StoreError) as caught:
        open_store(f"redis://user:secret@127.0.0.1:{free_port}/0", tmp_path).read({VIEW: ["a"]})
    assert f"redis://127.0.0.1:{free_port}/0" in str(caught.value)
    assert "secret" not in str(caught.value)
    assert "ConnectionError" in str(caught.value)


def test_a_password_can_come_from_the_environment(redis_server, tmp_path, monkeypatch):
    import redis

    admin = redis.Redis.from_url(redis_server)
    admin.execute_command("ACL", "SETUSER", "features", "on", ">open sesame", "~mlsys:*", "+@all")
    admin.close()
    address = redis_server.replace("redis://", "redis://features@")
    monkeypatch.delenv("MLSYS_REDIS_PASSWORD", raising=False)
    with pytest.raises(errors.StoreError):
        open_store(address, tmp_path).read({VIEW: ["a"]})
    monkeypatch.setenv("MLSYS_REDIS_PASSWORD", "open sesame")
    assert open_store(address, tmp_path).read({VIEW: ["never written"]})[VIEW].values == {}


def test_another_address_is_refused_with_what_there_is(tmp_path):
    with pytest.raises(errors.RecipeError, match=r"(?s)got: +memcached.*redis://127.0.0.1:6379/0"):
        open_store("memcached://host", tmp_path)
