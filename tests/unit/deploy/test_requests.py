import json

import pytest

from mlsys import errors
from mlsys.deploy import requests
from mlsys.deploy import tensors as protocol

ORDER = ["a", "b"]


def read(body):
    return requests.mlflow(json.dumps(body).encode(), ORDER)


ROWS = [{"a": 1, "b": "x"}, {"a": 2, "b": None}]


@pytest.mark.parametrize(
    "body",
    [
        {"dataframe_records": ROWS},
        {"dataframe_split": {"columns": ["a", "b"], "data": [[1, "x"], [2, None]]}},
        {"dataframe_split": {"columns": ["a", "b"], "data": [[1, "x"], [2, None]], "index": [0, 1]}},
        {"instances": ROWS},
        {"instances": [[1, "x"], [2, None]]},
        {"inputs": ROWS},
        {"inputs": [[1, "x"], [2, None]]},
        {"inputs": {"a": [1, 2], "b": ["x", None]}},
    ],
)
def test_every_form_of_mlflow_says_the_same_rows(body):
    request = read(body)
    assert request.as_records() == ROWS
    assert request.num_rows == 2
    assert request.probabilities
    assert request.ids is None


def tensor(name, datatype, data, shape=None):
    return {"name": name, "shape": shape or [len(data)], "datatype": datatype, "data": data}


def test_a_tensor_is_a_column():
    body = {
        "id": "r1",
        "inputs": [
            tensor("a", "INT64", [1, 2]),
            tensor("b", "BYTES", [["x"], [None]], [2, 1]),
            tensor("prediction_id", "BYTES", ["p", "q"]),
        ],
        "outputs": [{"name": "prediction"}],
    }
    request = protocol.open_inference(json.dumps(body).encode())
    assert request.as_records() == ROWS
    assert request.id == "r1"
    assert request.ids == ["p", "q"]
    assert not request.probabilities


def test_parameters_ask_for_less_and_name_the_rows():
    request = read({"instances": ROWS, "params": {"probabilities": False, "prediction_ids": ["p", "q"]}})
    assert not request.probabilities
    assert request.ids == ["p", "q"]


def test_no_rows_are_a_request():
    for body in ({"instances": []}, {"inputs": {}}, {"dataframe_split": {"columns": ["a"], "data": []}}):
        assert read(body).num_rows == 0


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[1]",
        b'"text"',
        b"\xff\xfe",
        b'{"instances": [{"a": Infinity}]}',
        b'{"instances": [{"a": -Infinity}]}',
        b"[" * 100_000,
    ],
)
def test_what_is_not_a_json_object_is_malformed(body):
    with pytest.raises(errors.PayloadError, match="expected: a JSON object in UTF-8") as caught:
        requests.mlflow(body, ORDER)
    assert caught.value.reason == "malformed"


@pytest.mark.parametrize("body", [{}, {"data": []}, {"inputs": [], "instances": []}])
def test_exactly_one_form_is_read(body):
    with pytest.raises(
        errors.PayloadError, match="exactly one of dataframe_records, dataframe_split, inputs, instances"
    ):
        read(body)


def faults(call):
    with pytest.raises(errors.RequestError) as caught:
        call()
    return [(fault["row"], fault["field"], fault["got"], fault["expected"]) for fault in caught.value.violations]


@pytest.mark.parametrize(
    ("body", "fault"),
    [
        ({"instances": 1}, ("all", "instances", "a number", "a list of rows")),
        ({"instances": [{}, 5]}, (1, "instances", "a number", "an object of column and value")),
        ({"instances": [[1]]}, (0, "instances", "1 value", "2 values: a, b")),
        ({"dataframe_records": [[1, "x"]]}, (0, "dataframe_records", "a list", "an object of column and value")),
        ({"inputs": {"a": 1}}, ("all", "a", "a number", "a list of values")),
        ({"inputs": {"a": [1, 2], "b": ["x"]}}, ("all", "b", "1 value", "2 values, as in the other columns")),
        ({"dataframe_split": []}, ("all", "dataframe_split", "another form", "an object with columns and data")),
        ({"dataframe_split": {"columns": ["a"]}}, ("all", "dataframe_split.data", "null", "a list of rows")),
        (
            {"dataframe_split": {"columns": ["a", "b"], "data": [[1, "x"], [1]]}},
            (1, "dataframe_split.data", "1 value", "2 values: a, b"),
        ),
        ({"instances": [], "param": {}}, ("all", "param", "an unknown key", "instances and params")),
        ({"instances": [], "params": 1}, ("all", "params", "a number", "an object")),
        (
            {"instances": [], "params": {"probability": True}},
            ("all", "params.probability", "an unknown parameter", "did you mean 'probabilities'?"),
        ),
        ({"instances": [], "params": {"probabilities": 1}}, ("all", "params.probabilities", "1", "true or false")),
        (
            {"instances": [], "params": {"prediction_ids": [1]}},
            ("all", "params.prediction_ids", "a list", "a list of texts"),
        ),
    ],
)
def test_a_wrong_shape_is_named(body, fault):
    assert faults(lambda: read(body)) == [fault]


def test_a_column_that_comes_twice_is_refused():
    body = {"dataframe_split": {"columns": ["a", "a"], "data": [[1, 2]]}}
    assert {fault[1:3] for fault in faults(lambda: read(body))} == {("a", "2 columns of this name")}


@pytest.mark.parametrize(
    ("tensors", "fault"),
    [
        ([{"shape": [1]}], ("all", "inputs[0]", "no name", "name, shape, datatype and data")),
        ([tensor("a", "INT64", [1], [2])], ("all", "a.data", "1 value", "2, as its shape says")),
        ([tensor("a", "INT64", [1], [1, 2])], ("all", "a.shape", "[1, 2]", "[rows] or [rows, 1]")),
        ([tensor("a", "INT", [1])], ("all", "a.datatype", "'INT'", "a datatype; did you mean 'INT8'?")),
        ([tensor("a", "INT8", [1]), tensor("a", "INT8", [1])], ("all", "a", "two tensors of this name", "one")),
        ([tensor("a", "INT8", [1]), tensor("b", "INT8", [1, 2])], None),
    ],
)
def test_a_wrong_tensor_is_named(tensors, fault):
    found = faults(lambda: protocol.open_inference(json.dumps({"inputs": tensors}).encode()))
    assert fault is None or found == [fault]


def test_an_inference_request_without_tensors_is_malformed():
    with pytest.raises(errors.PayloadError, match="exactly one of inputs"):
        protocol.open_inference(b'{"instances": []}')


def test_at_most_a_hundred_faults_of_the_form_are_listed():
    assert len(faults(lambda: read({"instances": [5] * 1_000}))) == 100
