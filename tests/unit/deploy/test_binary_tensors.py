import base64
import json
import struct

import numpy as np
import pytest

from mlsys import errors
from mlsys.deploy import binary_tensors, tensors
from mlsys.deploy.requests import Bounds


def body(*parts, **more):
    """An inference request of tensors as bytes: (name, datatype, shape, bytes) each; its body and length of JSON."""
    inputs = [
        {"name": name, "datatype": kind, "shape": shape, "parameters": {"binary_data_size": len(data)}}
        for name, kind, shape, data in parts
    ]
    head = json.dumps({"inputs": inputs, **more}).encode()
    return head + b"".join(data for *_, data in parts), len(head)


def parse(*parts, order=(), binary=(), **more):
    sent, json_bytes = body(*parts, **more)
    return tensors.open_inference(sent, binary=binary, order=order, json_bytes=json_bytes)


def fault(*parts, **more):
    with pytest.raises(errors.RequestError) as caught:
        parse(*parts, **more)
    return [(each["row"], each["field"], each["got"]) for each in caught.value.violations]


@pytest.mark.parametrize("kind", ["INT8", "INT16", "INT32", "INT64", "UINT8", "UINT16", "UINT32", "UINT64"])
def test_integers_are_little_endian_up_to_their_ends(kind):
    info = np.iinfo(kind.lower())
    data = b"".join(int(end).to_bytes(info.bits // 8, "little", signed=info.min < 0) for end in (info.min, info.max))
    assert parse(("a", kind, [2], data)).columns == {"a": [info.min, info.max]}


@pytest.mark.parametrize(("kind", "letter"), [("FP16", "e"), ("FP32", "f"), ("FP64", "d")])
def test_floats_keep_their_bits_and_nan_is_null(kind, letter):
    values = parse(("a", kind, [3], struct.pack(f"<3{letter}", 1.5, -0.0, float("nan")))).columns["a"]
    assert [str(value) for value in values] == ["1.5", "-0.0", "None"]
    assert fault(("a", kind, [1], struct.pack(f"<{letter}", float("-inf")))) == [
        (0, "a.data", "number -inf, beyond a double")
    ]


def test_flags_are_bytes_of_0_and_1():
    assert parse(("a", "BOOL", [2], b"\x01\x00")).columns == {"a": [True, False]}
    assert fault(("a", "BOOL", [2], b"\x01\x02")) == [("all", "a.data", "a byte above 1")]


def test_texts_stand_behind_their_lengths_and_pictures_become_base64():
    data = b"\x03\x00\x00\x00\xe2\x98\x83\x00\x00\x00\x00"
    assert parse(("a", "BYTES", [2], data)).columns == {"a": ["☃", ""]}
    picture = b"\x89PNG\xff"
    sent = ("p", "BYTES", [1], struct.pack("<I", 5) + picture)
    assert parse(sent, binary={"p"}).columns == {"p": [base64.b64encode(picture).decode()]}
    assert fault(sent) == [(0, "p.data", "bytes that are no UTF-8")]


@pytest.mark.parametrize("data", [b"\x01", b"\x05\x00\x00\x00abc", b"\xff\xff\xff\xffx"])
def test_texts_that_are_cut_are_named(data):
    assert fault(("a", "BYTES", [1], data))[0] == ("all", "a.data", f"{len(data)} bytes at its end")


def test_a_part_of_a_number_is_named():
    assert fault(("a", "INT64", [1], b"1234567"))[0] == ("all", "a.data", "7 bytes")


def test_values_and_shape_must_agree():
    assert fault(("a", "INT8", [3], b"\x01\x02")) == [("all", "a.data", "2 values")]
    assert fault(("a", "INT128", [1], b"\x01"))[0][1] == "a.datatype"


def test_a_table_is_divided_into_the_columns_of_the_model():
    data = struct.pack("<4d", 1, 2, 3, 4)
    assert parse(("t", "FP64", [2, 2], data), order=["x", "y"]).columns == {"x": [1, 3], "y": [2, 4]}


def test_tensors_as_bytes_and_as_json_may_stand_in_one_request():
    head = json.dumps({"inputs": [
        {"name": "a", "datatype": "INT8", "shape": [1], "data": [5]},
        {"name": "b", "datatype": "INT8", "shape": [1], "parameters": {"binary_data_size": 1}},
    ]}).encode()  # fmt: skip
    assert tensors.open_inference(head + b"\x07", json_bytes=len(head)).columns == {"a": [5], "b": [7]}


@pytest.mark.parametrize("change", [1, -1, 1000])
def test_the_bytes_must_be_as_many_as_the_tensors_say(change):
    sent, json_bytes = body(("a", "INT8", [4], b"1234"))
    sent = sent[:change] if change < 0 else sent + b"x" * change
    with pytest.raises(errors.PayloadError, match="4, the sum of binary_data_size") as caught:
        tensors.open_inference(sent, json_bytes=json_bytes)
    assert caught.value.reason == "malformed"


@pytest.mark.parametrize("size", [-1, 1.0, True, "4", None, 10**30])
def test_a_size_that_is_none_is_refused(size):
    head = json.dumps({"inputs": [{"name": "a", "datatype": "INT8", "shape": [4],
                                   "parameters": {"binary_data_size": size}}]}).encode()  # fmt: skip
    with pytest.raises((errors.PayloadError, errors.RequestError)):
        tensors.open_inference(head + b"1234", json_bytes=len(head))


def test_too_many_rows_are_refused_before_they_are_read():
    sent, json_bytes = body(("a", "INT8", [10], b"0123456789"))
    with pytest.raises(errors.PayloadError) as caught:
        tensors.open_inference(sent, Bounds(rows=9), json_bytes=json_bytes)
    assert caught.value.reason == "too_large"
    sent, json_bytes = body(("a", "INT8", [2, 5], b"0123456789"))
    with pytest.raises(errors.PayloadError, match="5 columns"):
        tensors.open_inference(sent, Bounds(columns=4), json_bytes=json_bytes)


@pytest.mark.parametrize(
    ("more", "names"),
    [
        ({}, []),
        ({"parameters": {"binary_data_output": True}}, ["decisions", "prediction", "prediction_id", "probabilities"]),
        ({"outputs": [{"name": "prediction", "parameters": {"binary_data": True}}]}, ["prediction"]),
        ({"outputs": [{"name": "prediction", "parameters": {"binary_data": False}}, {"name": "probabilities"}],
          "parameters": {"binary_data_output": True}}, ["probabilities"]),
    ],
)  # fmt: skip
def test_outputs_are_bytes_where_the_client_says_so(more, names):
    assert sorted(parse(("a", "INT8", [1], b"1"), **more).binary) == names


def test_the_bytes_of_an_answer_are_those_that_a_request_would_have():
    outputs = [
        {"name": "t", "datatype": "BYTES", "shape": [2], "data": ["☃", ""]},
        {"name": "n", "datatype": "INT64", "shape": [1], "data": [-2]},
        {"name": "f", "datatype": "FP64", "shape": [2], "data": [0.1, None]},
        {"name": "b", "datatype": "BOOL", "shape": [2], "data": [True, False]},
    ]
    rest, tail = binary_tensors.divided({"model_name": "m", "outputs": outputs}, {"t", "n", "f", "b"})
    sizes = [each["parameters"]["binary_data_size"] for each in rest["outputs"]]
    assert sizes == [11, 8, 16, 2]
    assert tail[:19] == b"\x03\x00\x00\x00\xe2\x98\x83\x00\x00\x00\x00" + struct.pack("<q", -2)
    assert np.frombuffer(tail[19:35], "<f8")[0] == 0.1
    assert np.isnan(np.frombuffer(tail[19:35], "<f8")[1])
    assert tail[35:] == b"\x01\x00"
    assert all("data" not in each for each in rest["outputs"])
