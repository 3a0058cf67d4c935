"""Hostile requests for an endpoint, seeded: bodies that are cut, doubled, nested, long, of other types, and packed.

`requests` yields method, path, headers and body of each; most begin as a request that works, and have a few faults. It
is given to the ASGI app in one process, or to a server, by `ask` of the caller.
"""

from __future__ import annotations

import copy
import gzip
import json
import random
import zlib

SURROGATE, NUL, LONG = "\ud800", "\x00", "x" * 3000

ODD = [
    None, True, False, 0, -1, 1.5, 1e308, -0.0, 2**63, 2**64, 10**30, "", "x", "5", "NaN", SURROGATE, NUL, LONG, "☃",
    [], [[]], {}, {"a": 1}, [None], [1, "x"], {"": {}}, "2013-01-01T00:00:00Z", "9999-12-31T23:59:59-23:00",
    "0001-01-01",
]  # fmt: skip
"""Values that a column may not take, or may."""

RAW = [
    b"1e400", b"-1e400", b"NaN", b"Infinity", b"-", b"01", b"1e", b'"\\ud800"', b'"\\u0000"', b'"\xff"', b"[" * 400,
    b"[" * 2000, b'{"a":' * 300 + b"1" + b"}" * 300, b"9" * 400, b"9" * 5000, b"tru", b'"\\x"', b"\xef\xbb\xbf", b"",
]  # fmt: skip
"""Bytes in place of a value, of which some are no JSON."""

KEYS = ["dataframe_records", "dataframe_split", "instances", "inputs", "params", "columns", "data", "name", "shape",
        "datatype", "outputs", "parameters", "id", "prediction_ids", "", SURROGATE, LONG]  # fmt: skip

HEADERS = [
    ("content-type", b"application/json"), ("content-type", b"text/csv"), ("content-type", b"\xff\xfe"),
    ("content-type", b"application/json; charset=utf-16"), ("content-encoding", b"gzip"),
    ("content-encoding", b"deflate"), ("content-encoding", b"br, gzip"), ("content-length", b"-1"),
    ("content-length", b"9" * 30), ("content-length", b"x"), ("x-request-id", b"\xff"), ("accept", b"\x00"),
]  # fmt: skip


def seeds(records, name):
    """Requests that work: path and JSON of each form."""
    names = list(records[0])
    columns = {column: [row[column] for row in records] for column in names}
    kinds = {bool: "BOOL", int: "INT64", float: "FP64"}
    tensors = [
        {"name": column, "shape": [len(values)], "datatype": kinds.get(type(values[0]), "BYTES"), "data": values}
        for column, values in columns.items()
    ]
    infer = f"/v2/models/{name}/infer"
    return [
        ("/invocations", {"dataframe_records": records, "params": {"counts": True}}),
        ("/invocations", {"dataframe_split": {"columns": names, "data": [list(row.values()) for row in records]}}),
        ("/invocations", {"instances": records, "params": {"prediction_ids": [str(n) for n in range(len(records))]}}),
        ("/invocations", {"inputs": columns}),
        (infer, {"id": "r", "inputs": tensors, "outputs": [{"name": "prediction"}], "parameters": {"counts": True}}),
    ]


def requests(seed, count, records, name, max_bytes=64_000):
    """Yield ``count`` requests: method, path, headers and body of at most `max_bytes`."""
    rng, forms = random.Random(seed), seeds(records, name)
    for _ in range(count):
        path, tree = rng.choice(forms)
        tree = json.loads(json.dumps(tree))
        for _ in range(rng.choice([0, 1, 1, 1, 2, 3, 8])):
            tree = _changed(tree, rng)
        body = json.dumps(tree, ensure_ascii=rng.random() < 0.9).encode("utf-8", "surrogatepass")
        if rng.random() < 0.3:
            body = _damaged(body, rng)
        body = body[:max_bytes]
        headers = [("content-type", b"application/json")]
        if rng.random() < 0.1:
            pack = rng.choice([gzip.compress, zlib.compress])
            headers.append(("content-encoding", b"gzip" if pack is gzip.compress else b"deflate"))
            body = pack(body)[: rng.choice([max_bytes, max_bytes, 30])]
        if rng.random() < 0.1:
            headers.append(rng.choice(HEADERS))
        if rng.random() < 0.02:
            path = rng.choice(
                ["/", "/v2/models/%ff/infer", "/v2/models/a%2Fb/infer", "/invocations/", "/v2", path + LONG]
            )
        yield rng.choice(["POST"] * 40 + ["GET", "PUT"]), path, headers, body


def _changed(tree, rng):
    """Replace, double, drop, repeat or rename something at a random place of a JSON value."""
    if not isinstance(tree, dict | list) or not tree or rng.random() < 0.15:
        return copy.deepcopy(rng.choice(ODD))
    place = rng.choice(list(tree) if isinstance(tree, dict) else range(len(tree)))
    what = rng.random()
    if what < 0.7:
        tree[place] = _changed(tree[place], rng)
    elif isinstance(tree, list):
        tree = rng.choice(
            [
                tree[:place],
                copy.deepcopy(tree) * rng.choice([2, 50, 1000]),
                [*tree, copy.deepcopy(rng.choice(ODD))],
                [tree],
            ]
        )[:20_000]
    elif what < 0.8:
        tree = {key: value for key, value in tree.items() if key != place}
    else:
        tree = {**tree, rng.choice([*KEYS, f"c{rng.random()}"]): copy.deepcopy(tree[place])}
    return tree


def _damaged(body, rng):
    """Cut a body, flip or repeat some of its bytes, or put something else in the place of a value."""
    at, length = rng.randrange(len(body) + 1), rng.choice([1, 2, 10, 1000])
    return rng.choice(
        [
            lambda: body[:at],
            lambda: body[:at] + bytes(rng.randrange(256) for _ in range(min(length, 10))) + body[at + length :],
            lambda: body[:at] + body[at : at + length] * rng.choice([2, 30]) + body[at:],
            lambda: body[:at] + rng.choice(RAW) + body[at:],
            lambda: body.replace(b": ", b": " + rng.choice(RAW), 1),
            lambda: body.decode("utf-8", "replace").encode(rng.choice(["utf-16", "utf-32", "latin-1"]), "replace"),
        ]
    )()  # fmt: skip


def heavy(records, size=64_000):
    """Bodies of about `size` bytes that ask for as much work as such a body can: each by its name."""
    row = json.dumps(records[0]).encode()
    short, names = b"[1]", b",".join(b'"c%d"' % n for n in range(size // 8))
    return {
        "whole rows": b'{"instances": [' + b",".join([row] * (size // (len(row) + 1))) + b"]}",
        "empty rows": b'{"instances": [' + b",".join([b"{}"] * (size // 3)) + b"]}",
        "short rows": b'{"dataframe_split": {"columns": [' + names[: size // 2].rpartition(b",")[0] + b'], "data": ['
        + b",".join([short] * (size // 8)) + b"]}}",
        "names": b'{"dataframe_split": {"columns": [' + names + b'], "data": []}}',
        "one name": b'{"dataframe_split": {"columns": [' + b",".join([b'"seats"'] * (size // 8)) + b'], "data": []}}',
        "unknown names": b'{"instances": [{' + b",".join(b'"s%d":1' % n for n in range(size // 9)) + b"}]}",
        "wrong rows": b'{"instances": [' + b",".join([b'{"seats":"x"}'] * (size // 14)) + b"]}",
        "odd rows": b'{"instances": [' + b",".join([b"1"] * (size // 2)) + b"]}",
        "lists": b'{"instances": [' + b",".join([b"[]"] * (size // 3)) + b"]}",
        "nested": b'{"instances": ' + b"[" * (size // 2) + b"]" * (size // 2) + b"}",
        "a text": b'{"instances": [{"carrier": "' + b"x" * size + b'"}]}',
        "a name": b'{"instances": [{"' + b"x" * size + b'": 1}]}',
        "digits": b'{"instances": [{"seats": ' + b"9" * size + b"}]}",
        "numbers": b'{"instances": [{"seats": [' + b",".join([b"1e5"] * (size // 4)) + b"]}]}",
        "columns": b'{"inputs": {' + b",".join(b'"c%d":[]' % n for n in range(size // 10)) + b"}}",
        "a packed flood": gzip.compress(bytes(60_000_000)),
    }  # fmt: skip
