"""Pictures as pixels: their order and types, their side, and who takes them."""

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from mlsys import recipe
from mlsys.features import plan, program
from mlsys.schema import Column, Kind, Role, Schema, Task, TaskKind
from mlsys.statistics import TableStatistics
from pictures import encoded, noise

SCHEMA = Schema(
    columns=(
        Column(name="photo", type="binary", kind=Kind.IMAGE),
        Column(name="y", type="double", kind=Kind.NUMERIC, role=Role.TARGET),
    )
)


def table(data):
    return pa.table({"photo": pa.array(data, pa.binary()), "y": np.arange(len(data), dtype=float)})


def chosen(data, encoding="pixels", **columns):
    statistics = TableStatistics.empty(SCHEMA, Task(kind=TaskKind.REGRESSION, target="y"))
    statistics.update(table(data))
    wanted = recipe.FeaturesSection.model_validate({"columns": columns})
    made = plan.choose(SCHEMA, statistics, wanted, encoding)
    return made, program.fit(made, statistics)


def pictures(side, mode="RGB", number=6):
    return [encoded(noise(side, side, mode, seed)) for seed in range(number)]


def test_a_picture_of_the_side_of_the_square_is_its_levels_row_by_row():
    data = pictures(16)
    made, fitted = chosen(data)
    X = fitted.transform(table(data))
    levels = np.stack([np.asarray(noise(16, 16, "RGB", seed)) for seed in range(6)])
    assert X.tolist() == (levels.reshape(6, -1) / 255).astype(np.float32).tolist()
    assert fitted.names[:4] == ["photo: red 0,0", "photo: green 0,0", "photo: blue 0,0", "photo: red 0,1"]
    assert fitted.types == ["P", *["p"] * 767]
    assert made.choices[0].reason == "pictures (colour, all 16 × 16): 16 × 16 pixels"


@pytest.mark.parametrize(("side", "square"), [(8, 16), (16, 16), (17, 32), (200, 32)])
def test_small_pictures_have_a_small_square(side, square):
    made, fitted = chosen(pictures(side))
    assert made.choices[0].params == {"size": square}
    assert fitted.width == 3 * square * square


def test_a_grey_picture_has_three_equal_channels():
    data = pictures(16, "L")
    X = chosen(data)[1].transform(table(data)).reshape(6, 256, 3)
    assert (X[:, :, :1] == X).all()


def test_a_flat_picture_stays_flat_whatever_its_size():
    data = [*pictures(40), encoded(Image.new("RGB", (100, 7), (51, 102, 255)))]
    X = chosen(data)[1].transform(table(data))[-1].reshape(-1, 3)
    assert np.unique(X, axis=0).tolist() == [np.float32([0.2, 0.4, 1.0]).tolist()]


def test_a_missing_picture_is_marked():
    data = [*pictures(16), None]
    _, fitted = chosen(data)
    X = fitted.transform(table(data))
    assert fitted.types[-1] == "q"
    assert X[:, -1].tolist() == [0] * 6 + [1]
    assert not X[-1, :-1].any()


def test_what_a_recipe_says_of_an_image_gives_way_to_pixels_but_for_an_encoder_or_a_drop():
    data = pictures(16)
    made, _ = chosen(data, photo={"operation": "image", "size": 64})
    assert (made.choices[0].operation, made.choices[0].params) == ("pixels", {"size": 16})
    assert made.choices[0].reason == "image asked for in the recipe; a convolution takes pixels in its place"
    assert chosen(data, photo={"operation": "pixels", "size": 24})[1].width == 3 * 24 * 24


@pytest.mark.parametrize("encoding", ["codes", "dense"])
def test_other_families_take_pixels_where_a_recipe_says_so_alone(encoding):
    data = pictures(16)
    assert chosen(data, encoding)[0].choices[0].operation == "image"
    made, fitted = chosen(data, encoding, photo={"operation": "pixels", "size": 8})
    assert (made.choices[0].operation, fitted.width) == ("pixels", 192)
