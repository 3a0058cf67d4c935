"""Hostile requests for an endpoint, seeded: bodies that are cut, doubled, nested, long, of other types, and packed.

`requests` yields method, path, headers and body of each, for an ASGI app. Most begin as a request that works, and have
a few faults. `wire` makes the bytes of a connection of them, whose lengths may lie, for a server.
"""

from __future__ import annotations

import contextlib
import copy
import gzip
import json
import random
import re
import socket
import struct
import zlib
from urllib.parse import quote

import pyarrow as pa

SURROGATE, NUL, LONG = "\ud800", "\x00", "x" * 3000

ODD = [
    None, True, False, 0, -1, 1.5, 1e308, -0.0, 2**63, 2**64, 10**30, "", "x", "5", "NaN", SURROGATE, NUL, LONG, "☃",
    [], [[]], {}, {"a": 1}, [None], [1, "x"], {"": {}}, "2013-01-01T00:00:00Z", "9999-12-31T23:59:59-23:00",
    "0001-01-01", "10000-01-01", "-0001-01-01T00:00:00Z", "2013-02-30", "2013-01-01T25:61:61Z",
    "2013-01-01T00:00:00+99:99",
    "2013-01-01T00:00:00.1234567891234Z", "NaT", "1e5", 1e18, -(10**18), 5e-324, 2**53 + 1, "true", "\u202e",
]  # fmt: skip
"""Values that a column may not take, or may."""

RAW = [
    b"1e400", b"-1e400", b"NaN", b"Infinity", b"-", b"01", b"1e", b'"\\ud800"', b'"\\u0000"', b'"\xff"', b"[" * 400,
    b"[" * 2000, b'{"a":1,"a":2}', b'"a":1,', b"-Infinity", b"-0", b"1E+999", b'"\\ud800\\udc00"', b"/**/", b"'a'",
    b'{"a":' * 300 + b"1" + b"}" * 300, b"9" * 400, b"9" * 5000, b"tru", b'"\\x"', b"\xef\xbb\xbf", b"",
]  # fmt: skip
"""Bytes in place of a value, of which some are no JSON."""

KEYS = [
    "labels", "label", "prediction_id", "at", "known_at", "input", "output", "mode", "keys", "settings",
    "binary_data", "binary_data_size", "binary_data_output", "content_type", "dataframe_records",
    "dataframe_split", "instances", "inputs", "params", "columns", "data", "name", "shape", "datatype", "outputs",
    "parameters", "id", "prediction_ids", "", SURROGATE, LONG,
]  # fmt: skip

HEADERS = [
    ("content-type", b"application/json"), ("content-type", b"text/csv"), ("content-type", b"\xff\xfe"),
    ("content-type", b"application/json; charset=utf-16"), ("content-encoding", b"gzip"),
    ("content-encoding", b"deflate"), ("content-encoding", b"br, gzip"), ("content-length", b"-1"),
    ("content-length", b"9" * 30), ("content-length", b"x"), ("x-request-id", b"\xff"), ("accept", b"\x00"),
    ("content-type", b"application/vnd.apache.arrow.stream"), ("content-type", b"application/octet-stream"),
    ("content-type", b"multipart/form-data; boundary=x"), ("content-type", b";;;"), ("content-type", b""),
    ("content-encoding", b"gzip, gzip"), ("content-encoding", b"\xe2\x98\x83"), ("content-encoding", b"identity"),
    ("x-request-timeout-ms", b"60000"), ("x-request-timeout-ms", b"-1"), ("x-request-timeout-ms", b"1e3"),
    ("x-request-timeout-ms", b"9" * 400), ("x-request-timeout-ms", b"\xff"), ("x-request-deadline", b"nan"),
    ("x-request-deadline", b"0"), ("inference-header-content-length", b"10"), ("idempotency-key", b"k"),
    ("inference-header-content-length", b"0"), ("inference-header-content-length", b"-5"),
    ("inference-header-content-length", b"9" * 18), ("inference-header-content-length", b"9" * 5000),
    ("inference-header-content-length", b"\xc2\xb2"), ("idempotency-key", b""), ("idempotency-key", b"k" * 3000),
    ("authorization", b"Bearer \xff"), ("x-api-key", b"x" * 3000), ("accept-encoding", b"gzip;q=nan"),
    ("host", b"[::1"), ("host", b"a b"), ("cookie", b"=;=;" * 500), ("range", b"bytes=-1"), ("expect", b"200-ok"),
    ("x-forwarded-for", b"'\";--"), ("traceparent", b"00-0-0-0"), ("x-http-method-override", b"DELETE"),
]  # fmt: skip

METHODS = ["GET", "PUT", "HEAD", "DELETE", "OPTIONS", "PATCH", "TRACE", "BREW", "post"]

PATHS = [
    "/", "/v2/models/%ff/infer", "/v2/models/a%2Fb/infer", "/invocations/", "/v2", "/v2/", "//", "/..;/stats",
    "/./ready",
    "/v2/models//infer", "/v2/models/late/versions//infer", "/v2/models/late/versions/9999999999999999999999/infer",
    "/v2/models/late/versions/1/infer", "/v2/models/\ud800/infer", "/batch/" + "a" * 5000, "/batch/..", "/batch/\x00",
    "/batch/☃", "/ready\n", "/docs?x=" + "y" * 500, "/v2/health/live", "/stats", "/ping", "/openapi.json",
]  # fmt: skip

BOMB = gzip.compress(bytes(20 << 20), 1)
"""20 MB of nothing."""


def seeds(records, name, *, with_jobs=True):
    """Requests that work: path and JSON of each form."""
    names = list(records[0])
    columns = {column: [row[column] for row in records] for column in names}
    kinds = {bool: "BOOL", int: "INT64", float: "FP64"}
    tensors = [
        {"name": column, "shape": [len(values)], "datatype": kinds.get(type(values[0]), "BYTES"), "data": values}
        for column, values in columns.items()
    ]
    infer = f"/v2/models/{name}/infer"
    labels = [{"prediction_id": f"p{n}", "label": True, "known_at": "2026-03-01T12:00:00Z"} for n in range(3)]
    job = {"input": "in.csv", "output": "out", "keys": names[:1], "mode": "append", "settings": {}, "run_id": "r1"}
    more = [("/labels", {"labels": labels}), ("/batch", job)] if with_jobs else [("/labels", {"labels": labels})]
    return [
        *more,
        ("/invocations", {"dataframe_records": records, "params": {"counts": True}}),
        ("/invocations", {"dataframe_split": {"columns": names, "data": [list(row.values()) for row in records]}}),
        ("/invocations", {"instances": records, "params": {"prediction_ids": [str(n) for n in range(len(records))]}}),
        ("/invocations", {"inputs": columns}),
        (infer, {"id": "r", "inputs": tensors, "outputs": [{"name": "prediction"}], "parameters": {"counts": True}}),
    ]


def requests(seed, count, records, name, max_bytes=64_000, *, with_jobs=True):
    """Yield ``count`` requests: method, path, headers and body of at most `max_bytes`."""
    rng, forms = random.Random(seed), seeds(records, name, with_jobs=with_jobs)
    for _ in range(count):
        if rng.random() < 0.15:
            yield other(rng, records, name, max_bytes)
            continue
        path, tree = rng.choice(forms)
        tree = json.loads(json.dumps(tree))
        for _ in range(rng.choice([0, 1, 1, 1, 2, 3, 8])):
            tree = _changed(tree, rng) if rng.random() < 0.6 else _one_replaced(tree, rng)
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
        if rng.random() < 0.04:
            path = rng.choice([*PATHS, path + LONG])
        yield rng.choice(["POST"] * 200 + METHODS), path, headers, body


def other(rng, records, name, max_bytes):
    """A request whose body is not JSON alone (tensors as bytes, Arrow, a gzip bomb), or one for other addresses."""
    kind = rng.random()
    if kind < 0.6:
        head, tail = tensors(rng, records)
        headers = [("content-type", b"application/octet-stream")]
        headers.append(("inference-header-content-length", b"%d" % (len(head) + rng.choice([0] * 8 + [-1, 1, 1000]))))
        body = head + tail if rng.random() < 0.5 else head + _damaged(tail, rng)
        return "POST", f"/v2/models/{name}/infer", headers, body[:max_bytes]
    if kind < 0.75:
        sink = pa.BufferOutputStream()
        table = pa.Table.from_pylist(records)
        with pa.ipc.new_stream(sink, table.schema) as stream:
            stream.write_table(table)
        kind = rng.choice([b"application/vnd.apache.arrow.stream", b"application/octet-stream", b"application/json"])
        return "POST", "/invocations", [("content-type", kind)], _damaged(sink.getvalue().to_pybytes(), rng)
    if kind < 0.76:
        return "POST", rng.choice(["/invocations", "/labels", "/batch"]), [("content-encoding", b"gzip")], BOMB
    return rng.choice(METHODS), rng.choice(PATHS), [rng.choice(HEADERS)], rng.choice([b"", b"{}", b"\x00"])


def tensors(rng, records):
    """The JSON of an inference request and the bytes behind it: tensors of the numbers of a row, most of them right."""
    described, parts = [], []
    for column, kind, letter in (("seats", "INT64", "q"), ("distance", "FP64", "d"), ("night", "BOOL", "?")):
        values = [row[column] for row in records]
        if any(value is None for value in values):
            continue
        parts.append(struct.pack(f"<{len(values)}{letter}", *values))
        described.append({"name": column, "datatype": kind, "shape": [len(values)],
                          "parameters": {"binary_data_size": len(parts[-1])}})  # fmt: skip
    texts = [str(row["carrier"]).encode() for row in records]
    parts.append(b"".join(struct.pack("<I", len(text)) + text for text in texts))
    described.append({"name": "carrier", "datatype": "BYTES", "shape": [len(texts)],
                      "parameters": {"binary_data_size": len(parts[-1])}})  # fmt: skip
    tree = {"inputs": described, "parameters": {"binary_data_output": True}}
    if rng.random() < 0.4:
        tree = _changed(tree, rng)
    return json.dumps(tree).encode("utf-8", "surrogatepass"), b"".join(parts)


def exchange(address, data, seconds=10.0):
    """Send bytes over a connection of their own, to ``(host, port)``, and read all that comes back."""
    with socket.create_connection(address, timeout=seconds) as connection:
        with contextlib.suppress(OSError):  # the answer may come, and the connection end, before all is sent
            connection.sendall(data)
        with contextlib.suppress(OSError):
            connection.shutdown(socket.SHUT_WR)
        parts = []
        with contextlib.suppress(OSError):
            while part := connection.recv(65_536):
                parts.append(part)
    return b"".join(parts)


def statuses(answer):
    """The statuses of the answers in what came back over a connection."""
    return [int(status) for status in re.findall(rb"^HTTP/1\.1 (\d{3})", answer, re.MULTILINE)]


FRAMES = ["exact"] * 8 + ["short", "long", "none", "two", "chunked", "bad chunk", "cut chunk", "both", "noise"]


def wire(seed, count, records, name, prefix=""):
    """Yield the bytes of ``count`` connections: requests as above, of whose lengths some lie, and some noise."""
    rng = random.Random(seed)
    for method, path, headers, body in requests(seed, count, records, name, with_jobs=False):
        frame, size, sent = rng.choice(FRAMES), len(body), body
        target = prefix + quote(path.encode("utf-8", "surrogatepass"), safe="/%?=")
        lines = [f"{method} {target} HTTP/1.1".encode(), b"host: x", b"connection: close"]
        lines += [key.encode() + b": " + value for key, value in headers if key not in {"content-length", "host"}]
        lengths = {"short": [size // 2], "long": [size + 10], "two": [size, size + 1], "both": [size]}
        stated = [] if frame in {"none", "chunked", "bad chunk", "cut chunk"} else lengths.get(frame, [size])
        lines += [b"content-length: %d" % length for length in stated]
        if "chunk" in frame or frame == "both":
            lines.append(b"transfer-encoding: chunked")
            sent = b"%x\r\n%s\r\n0\r\n\r\n" % (size, body)
            sent = {"bad chunk": b"zz\r\n" + sent, "cut chunk": sent[: size // 2]}.get(frame, sent)
        noise = bytes(rng.randrange(256) for _ in range(200))
        yield noise if frame == "noise" else b"\r\n".join(lines) + b"\r\n\r\n" + sent


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


def _one_replaced(tree, rng):
    """Replace one value at the bottom of a JSON value, wherever it lies."""
    if isinstance(tree, list) and tree:
        place = rng.randrange(len(tree))
        return [*tree[:place], _one_replaced(tree[place], rng), *tree[place + 1 :]]
    if isinstance(tree, dict) and tree:
        place = rng.choice(list(tree))
        return {**tree, place: _one_replaced(tree[place], rng)}
    return copy.deepcopy(rng.choice(ODD))


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
