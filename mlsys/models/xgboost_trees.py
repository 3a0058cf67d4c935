"""The trees of an XGBoost model as `mlsys.models.leaf_masks` takes them.

Source: XGBoost, "Introduction to Model IO" and the JSON schema of a model. A value below the condition of a node goes
to its left child, a category of the node's set to its right one; a value that is no category goes left, a missing one
where the node says.

The JSON is read in parts, a tree at a time: a replica that loads a version goes on answering beside it, and a call that
parses a megabyte lets no other thread compute meanwhile.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
import xgboost
from numpy.typing import NDArray

from mlsys.models.leaf_masks import InnerNode, LeafMasks, Tree, tree_of
from mlsys.models.matrix import LARGEST

MAX_JSON_BYTES = 1 << 25
"""Length of a model's JSON at most; reading 32 MiB takes tenths of a second."""

_BY_CATEGORIES = 1
"""Type of a node that splits by categories."""


def masks_of(booster: xgboost.Booster, outputs: int) -> LeafMasks:
    """Make the tables of a booster.

    Raises
    ------
    ValueError
        It is none of trees that take turns for the outputs, or it is better left to its library.
    """
    text = booster.save_raw("json")
    if len(text) > MAX_JSON_BYTES:
        raise ValueError(f"a model of more than {MAX_JSON_BYTES:,} bytes of JSON")
    try:
        document = _PARTS.decode(text)
        learner = _PARTS.decode(document["learner"])
        boosting = _PARTS.decode(learner["gradient_booster"])
        model = _PARTS.decode(boosting["model"]) if _read(boosting["name"]) == "gbtree" else {}
        trees = _ITEMS.decode(model.get("trees", b"[]"))
        if not trees or _read(model["tree_info"]) != [number % outputs for number in range(len(trees))]:
            raise ValueError("no trees that take turns for the outputs")
        first = {**model, **_worth_nothing(trees[:outputs], _read(model["gbtree_model_param"]))}
        whole = {**document, "learner": {**learner, "gradient_booster": {**boosting, "model": first}}}
        return LeafMasks([_tree(_read(tree)) for tree in trees], _margins(msgspec.json.encode(whole), outputs))
    except msgspec.MsgspecError as error:
        raise ValueError(str(error)) from None


_PARTS: msgspec.json.Decoder[dict[str, Any]] = msgspec.json.Decoder(dict[str, msgspec.Raw])
_ITEMS: msgspec.json.Decoder[list[msgspec.Raw]] = msgspec.json.Decoder(list[msgspec.Raw])
_read = msgspec.json.decode


def _worth_nothing(trees: Sequence[msgspec.Raw], facts: Mapping[str, Any]) -> dict[str, Any]:
    """The parts of a model that has these trees alone, whose leaves are worth nothing."""
    read = [_read(tree) for tree in trees]
    flat = [{**tree, "split_conditions": [0.0] * len(tree["split_conditions"])} for tree in read]
    numbered = {"tree_info": list(range(len(trees))), "iteration_indptr": [0, len(trees)]}
    return {"trees": flat, **numbered, "gbtree_model_param": {**facts, "num_trees": str(len(trees))}}


def _margins(text: bytes, outputs: int) -> NDArray[np.float32]:
    """The margins that predictions begin with, by the library itself: those of trees whose leaves are worth nothing."""
    booster = xgboost.Booster({"nthread": 1}, model_file=bytearray(text))
    row = np.zeros((1, booster.num_features()), np.float32)
    return np.asarray(booster.inplace_predict(row, predict_type="margin"), np.float32).reshape(outputs)


def _tree(tree: Mapping[str, Any]) -> Tree:
    left, right = tree["left_children"], tree["right_children"]
    conditions = np.asarray(tree["split_conditions"], np.float32).tolist()
    categories = _categories(tree)
    splits = {}
    for node in (node for node, child in enumerate(left) if child != -1):
        is_numeric = tree["split_type"][node] != _BY_CATEGORIES
        limit = _limit(conditions[node]) if is_numeric else None
        goes_right = not tree["default_left"][node]
        splits[node] = InnerNode(tree["split_indices"][node], limit, categories.get(node, frozenset()), goes_right)
    return tree_of(left, right, splits, conditions)


def _limit(condition: float) -> float:
    """The least number that goes right, where larger ones than `LARGEST` stand for it, as `bounded` makes them."""
    if condition > LARGEST:
        return math.inf
    return -math.inf if condition <= -LARGEST else condition


def _categories(tree: Mapping[str, Any]) -> dict[int, frozenset[int]]:
    """The categories of each node that splits by them."""
    parts = zip(tree["categories_nodes"], tree["categories_segments"], tree["categories_sizes"], strict=True)
    return {node: frozenset(tree["categories"][start : start + size]) for node, start, size in parts}
