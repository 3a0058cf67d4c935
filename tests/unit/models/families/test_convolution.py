"""The convolutional network: its arithmetic against PyTorch's, what it learns, its time, and where it is refused."""

import subprocess
import sys
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from mlsys import errors, models
from mlsys.models import deadline, torch_convolution
from mlsys.models.families import convolution
from mlsys.models.matrix import Matrix
from mlsys.schema import Task, TaskKind
from pictures import paired

NUMBER = Task(kind=TaskKind.REGRESSION, target="y")
TWO = Task(kind=TaskKind.BINARY, target="y", classes=("below", "beside"))
SMALL = {"epochs": 6, "width": 4, "hidden": 8, "batch_rows": 32}
WITHOUT = """
import sys
sys.modules["torch"] = None
from mlsys import errors, models
try:
    models.family("convolution")
except errors.RecipeError as error:
    print(error)
"""


@pytest.fixture(scope="module")
def family():
    return models.family("convolution")


def rows(n=200, side=8, seed=0, columns=2, kind="regression"):
    """Noise whose red level and first column are the target."""
    rng = np.random.default_rng(seed)
    pixels = rng.random((n, side, side, 3))
    pixels[..., 0] *= rng.random((n, 1, 1))
    other = rng.normal(size=(n, columns))
    y = pixels[..., 0].mean(axis=(1, 2)) * 4 + (other[:, 0] if columns else 0)
    y = y if kind == "regression" else y > np.median(y)
    X = np.hstack([other, pixels.reshape(n, -1)]).astype(np.float32)
    types = (*"q" * columns, "P", *"p" * (3 * side * side - 1))
    return Matrix(X, y.astype(np.float64), tuple(map(str, range(X.shape[1]))), types)


def dots(n, seed):
    """Pictures of `paired` as pixels, half of each class."""
    levels = np.stack([np.asarray(paired(k % 2 == 1, 16, seed + k)) for k in range(n)]).astype(np.float32) / 255
    X = np.repeat(levels.reshape(n, -1), 3, axis=1)
    return Matrix(X, (np.arange(n) % 2).astype(float), tuple(map(str, range(768))), ("P", *"p" * 767))


def fit(family, train, validation=None, task=NUMBER, seconds=None, threads=1, **params):
    how = {"seed": 0, "threads": threads, "seconds": seconds}
    return family.fit(train, validation, task, family.params(**{**SMALL, **params}), **how)


def by_pytorch(trained, pictures, others, blocks):
    """The scores of folded layers, by PyTorch's own convolutions."""
    functional = torch.nn.functional

    def layer(name, x):
        own = trained.layers[name]
        weight, bias = torch.from_numpy(own.weight), torch.from_numpy(own.bias)
        if x.ndim == 2:
            return functional.linear(x, weight[:, :, 0, 0], bias)
        return functional.conv2d(x, weight, bias, stride=own.stride, padding=own.weight.shape[2] // 2)

    x = torch.relu(layer("stem", torch.from_numpy(pictures)))
    for number in range(blocks):
        z = layer(f"block-{number}-1", torch.relu(layer(f"block-{number}-0", x)))
        around = f"block-{number}-around"
        x = torch.relu(z + (layer(around, x) if around in trained.layers else x))
    joined = [x.mean(dim=(2, 3))]
    if "hidden" in trained.layers:
        joined.append(torch.relu(layer("hidden", torch.from_numpy(others))))
    return layer("last", torch.cat(joined, dim=1))


@pytest.mark.parametrize("params", [{}, {"blocks": 2, "stages": 2}, {"stages": 1}], ids=str)
@pytest.mark.parametrize(("kind", "task", "columns"), [("regression", NUMBER, 2), ("classes", TWO, 0)])
def test_whole_numbers_predict_as_the_floats_that_were_trained(family, monkeypatch, kind, task, columns, params):
    kept = []

    def trained(*given, **how):
        kept.append(torch_convolution.train_convolution(*given, **how))
        return kept[0]

    monkeypatch.setattr(convolution, "train_convolution", trained)
    matrix = rows(columns=columns, kind=kind)
    model = fit(family, matrix, task=task, **params)
    inputs = convolution._Inputs(model.pixels, model.others, model.levels, model.scales)
    blocks = params.get("blocks", 1) * params.get("stages", 3)
    scores = by_pytorch(kept[0], *inputs.pictures(matrix.X), blocks)
    predicted = family.predict(model, matrix.X)
    if kind == "classes":
        np.testing.assert_allclose(predicted, torch.softmax(scores, dim=1).numpy(), atol=2e-5)
    else:
        y = matrix.y
        np.testing.assert_allclose(
            predicted, (scores[:, 0].numpy() * y.std() + y.mean()).clip(y.min(), y.max()), atol=2e-5
        )


def test_folded_layers_are_those_that_judge():
    params = torch_convolution.ConvolutionParams(**SMALL)
    net = torch_convolution.ConvolutionNet(3, 2, 3, params, seed=0)
    X, other = torch.rand(40, 3, 8, 8), torch.rand(40, 2)
    net.train(X, other, torch.arange(40) % 3, torch.arange(40), 0.1)
    with torch.no_grad():
        expected = net.outputs(X, other, is_training=False).numpy()
    trained = torch_convolution.TrainedConvolution(net.folded(), 1)
    ours = by_pytorch(trained, X.double().numpy(), other.double().numpy(), 3).numpy()
    np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=1e-5)


def test_patches_are_those_of_a_plain_loop():
    x = np.random.default_rng(0).integers(-9, 9, (2, 5, 6, 3)).astype(float)
    wide = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    for stride in (1, 2):
        expected = [
            [[wide[n, i : i + 3, j : j + 3].ravel() for j in range(0, 6, stride)] for i in range(0, 5, stride)]
            for n in range(2)
        ]
        assert convolution.patches(x, 3, stride).tolist() == np.array(expected).tolist()


def test_the_learning_rate_rises_and_falls_once():
    parts = np.linspace(0, 1, 101)
    rates = [torch_convolution.rate(part) for part in parts]
    assert (rates[0], max(rates), parts[int(np.argmax(rates))]) == (0.0, 1.0, 0.2)
    assert rates[-1] == pytest.approx(0, abs=1e-12)


def test_training_pictures_are_shifted_by_up_to_a_part_of_their_side_and_never_changed_otherwise():
    net = torch_convolution.ConvolutionNet(1, 0, 0, torch_convolution.ConvolutionParams(shift=0.25), seed=0)
    picture = torch.zeros(400, 1, 8, 8)
    picture[:, 0, 3, 5] = 1.0
    moved = net.changed(picture)[:, 0].nonzero()[:, 1:]  # a shift of 2 in each direction loses nothing here
    assert len(moved) == 400
    assert {tuple(place) for place in moved.tolist()} == {(y, x) for y in range(1, 6) for x in range(3, 8)}


def test_half_of_the_training_pictures_are_mirrored_where_that_is_asked_for():
    params = torch_convolution.ConvolutionParams(shift=0, mirrored=True)
    net = torch_convolution.ConvolutionNet(1, 0, 0, params, seed=0)
    picture = torch.zeros(1_000, 1, 8, 8)
    picture[:, 0, 3, 5] = 1.0
    places = net.changed(picture)[:, 0].nonzero()[:, 2]
    assert set(places.tolist()) == {2, 5}
    assert 400 < int((places == 2).sum()) < 600


def test_several_pictures_are_channels_and_a_smaller_one_is_enlarged():
    types = ["q", "P", *"p" * 11, "c", "P", *"p" * 2, "q"]
    pixels, others = convolution.positions(types)
    assert pixels.shape == (6, 2, 2)
    assert pixels[0].tolist() == [[1, 4], [7, 10]]  # red of the first picture
    assert pixels[4].tolist() == [[15, 15], [15, 15]]  # green of the second, of one pixel
    assert others.tolist() == [0, 13, 17]


def test_it_tells_apart_what_only_neighbours_tell_wherever_it_lies(family):
    model = fit(family, dots(600, 0), dots(200, 5_000), TWO, epochs=15, width=8)
    judged = dots(300, 10_000)
    assert (family.predict(model, judged.X).argmax(axis=1) == judged.y).mean() > 0.95


def test_pictures_and_columns_are_both_of_use(family):
    train, judged = rows(600), rows(300, seed=1)
    error = np.mean((family.predict(fit(family, train, epochs=20), judged.X) - judged.y) ** 2)
    without = Matrix(judged.X * (np.arange(judged.num_features) > 1), judged.y, judged.names, judged.types)
    blind = np.mean((family.predict(fit(family, train, epochs=20), without.X) - judged.y) ** 2)
    assert error < 0.2 * judged.y.var() < blind


def test_training_ends_without_gain_on_the_validation_rows_and_keeps_the_best_epoch(family):
    rng = np.random.default_rng(0)
    noise = [Matrix(rows(seed=s).X, rng.normal(size=200), rows().names, rows().types) for s in (1, 2)]
    said = []
    how = {"seed": 0, "threads": 1, "progress": said.append}
    params = family.params(**{**SMALL, "epochs": 40, "patience": 5})
    model = family.fit(*noise, NUMBER, params, **how)
    assert family.rounds(model) < 35
    assert said[-1] <= family.rounds(model) + 5
    again = family.fit(noise[0], None, NUMBER, family.params_of_refit(params, model, 1.1), seed=0, threads=1)
    assert family.predict(again, noise[1].X).tobytes() == family.predict(model, noise[1].X).tobytes()


def test_a_fit_ends_with_the_epoch_that_passes_its_time(family, monkeypatch):
    ticks = iter([0.0, *[1.0] * 4])
    monkeypatch.setattr(convolution, "epochs_in_time", lambda *_: {})
    monkeypatch.setattr(convolution, "probe", lambda *_: None)
    monkeypatch.setattr(deadline, "monotonic", lambda: next(ticks, 100.0))
    train = rows()
    late = fit(family, train, seconds=50.0)
    assert 0 < family.cut(late)["last_epoch"] < 6
    again = fit(family, train, **family.cut(late))
    assert family.predict(again, train.X).tobytes() == family.predict(late, train.X).tobytes()


def test_rows_without_pictures_are_refused(family):
    plain = Matrix(np.zeros((5, 2), np.float32), np.zeros(5), ("a", "b"), ("q", "q"))
    with pytest.raises(errors.FeatureError, match="2 features, none of which is a pixel"):
        fit(family, plain)


@dataclass
class Many:
    """As much of a matrix as its size."""

    num_rows: int


def test_a_comparison_has_a_part_of_the_epochs_and_says_so(family):
    params = family.params()
    cheaper = [family.params_for_comparison(params, NUMBER, Many(count)).epochs for count in (10_000, 1_280, 200)]
    assert (params.epochs, cheaper) == (40, [12, 25, 40])  # 500 steps are 25 epochs of 20 steps
    used = [params.model_copy(update={"epochs": epochs}) for epochs in cheaper]
    assert family.note_on_cheaper(params, used) == "convolution: compared with 12 epochs, to limit the cost"


def test_arrays_that_do_not_fit_are_refused(family, tmp_path):
    model = fit(family, rows(), epochs=1)
    family.save(model, tmp_path)
    file = tmp_path / "convolution.npz"
    arrays = dict(np.load(file))
    for name, other in (("weight stem", arrays["weight stem"][:-1]), ("pixels", arrays["pixels"] + 10_000)):
        np.savez(file, **{**arrays, name: other})
        with pytest.raises(errors.BundleError, match=r"convolution\.npz"):
            family.load(tmp_path)


ELSEWHERE = """
import sys
sys.modules["torch"] = None
import numpy as np
from pathlib import Path
from mlsys import models

folder = Path(sys.argv[1])
for name in ("convolution", "network"):
    X = np.load(folder / f"{name}.npy")
    np.save(folder / f"{name}-out.npy", models.predict(name, models.load(name, folder / name), X))
"""


def test_models_are_read_and_predict_where_the_package_is_not(family, tmp_path):
    matrix = rows()
    expected = {}
    for name, params in {"convolution": SMALL, "network": {"epochs": 3, "width": 8}}.items():
        each = models.family(name)
        model = each.fit(matrix, None, NUMBER, each.params(**params), seed=0, threads=1)
        (tmp_path / name).mkdir()
        models.save(name, model, tmp_path / name)
        np.save(tmp_path / f"{name}.npy", matrix.X)
        expected[name] = models.predict(name, model, matrix.X).tobytes()
    subprocess.run([sys.executable, "-c", ELSEWHERE, str(tmp_path)], check=True)
    assert {name: np.load(tmp_path / f"{name}-out.npy").tobytes() for name in expected} == expected


def test_without_its_package_it_is_no_family_and_the_message_names_the_extra():
    done = subprocess.run([sys.executable, "-c", WITHOUT], capture_output=True, text=True, check=True)
    assert done.stdout == (
        "models: family 'convolution'\n  got:      no package 'torch' in this environment\n"
        "  expected: the extra of this family\n  hint:     pip install 'mlsys[torch]'\n"
    )
