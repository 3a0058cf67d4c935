"""Devices of a fit: what is asked of Ray, and what is refused before the first fit."""

import sys
import types

import numpy as np
import pyarrow as pa
import pytest
import xgboost

import mlsys
from mlsys import cluster, errors, models, recipe
from mlsys.cluster import Resources, tasks
from mlsys.models.families.xgboost import XGBoostFamily
from mlsys.schema import Task
from mlsys.train import devices, distributed, fitting, placement
from mlsys.train.placement import Placement, place
from mlsys.train.training_job import TrainingJob
from modelled import collected

TASK = Task(kind="regression", target="y")


def asked(device="auto", **train):
    text = f"name: a\ntarget: y\ndata: {{source: x.csv}}\ntrain: {{device: {device}}}\n"
    return recipe.parse(text, [f"train.{name}={value}" for name, value in train.items()])


@pytest.fixture
def one_gpu(monkeypatch):
    monkeypatch.setattr(cluster, "num_gpus", lambda: 1)
    monkeypatch.setattr(xgboost, "build_info", lambda: {"USE_CUDA": True})


def test_a_gpu_that_is_not_there_is_refused_before_rows_are_collected(tmp_path, monkeypatch):
    monkeypatch.setattr(cluster, "num_gpus", lambda: 0)
    source = {"name": "wine", "target": "target", "data": {"source": "sklearn://wine"}, "train": {"device": "cuda"}}
    with pytest.raises(errors.ClusterError) as caught:
        mlsys.run(source, "train", store=tmp_path, cluster=False, quiet=True, set={"tune.trials": 0})
    assert str(caught.value) == (
        "recipe: train.device\n"
        "  got:      cuda, and no GPU on the one machine of the cluster\n"
        "  expected: a machine that Ray knows a GPU of (`ray status` lists them)\n"
        "  hint:     train.device: auto takes a GPU where there is one, or add a machine that has one"
    )
    assert not (tmp_path / "objects" / "snapshot").exists()


def test_a_family_that_cannot_use_a_gpu_is_refused_where_the_recipe_names_it(one_gpu):
    with pytest.raises(errors.RecipeError) as caught:
        devices.check(asked("cuda", family="forest"))
    assert str(caught.value) == (
        "recipe: train.device\n"
        "  got:      cuda for family 'forest': forest is fitted on the CPU alone\n"
        "  expected: a family whose library can use a GPU here\n"
        "  hint:     train.device: auto, or another train.family"
    )
    devices.check(asked("cuda", family="xgboost"))
    devices.check(asked("cuda"))


@pytest.mark.parametrize(
    ("device", "family", "chosen", "note"),
    [
        ("auto", "xgboost", "cuda", "on a GPU"),
        ("auto", "forest", "cpu", None),
        ("cuda", "xgboost", "cuda", "on a GPU"),
        ("cuda", "forest", "cpu", "on the CPU: forest is fitted on the CPU alone"),
        ("cpu", "xgboost", "cpu", None),
    ],
)
def test_the_device_is_a_gpu_where_there_is_one_that_the_family_can_use(one_gpu, device, family, chosen, note):
    wish, params = asked(device), models.params_of(family, {})
    assert devices.choose(wish, family, TASK, params) == chosen
    assert devices.note(wish, chosen, family, TASK) == note


def test_without_a_gpu_auto_takes_the_cpu(monkeypatch):
    monkeypatch.setattr(cluster, "num_gpus", lambda: 0)
    assert devices.choose(asked(), "xgboost", TASK, models.params_of("xgboost", {})) == "cpu"
    assert devices.gpus("cpu") == 0
    assert devices.facts("cpu") == {}


def test_the_network_has_no_workers_on_gpus(one_gpu, monkeypatch):
    network = models.family("network")
    monkeypatch.setattr(type(network), "lacks_cuda", lambda *_, **__: None)
    params = models.params_of("network", {})
    assert devices.choose(asked("cuda"), "network", TASK, params) == "cuda"
    assert devices.choose(asked("cuda"), "network", TASK, params, plan="cluster") == "cpu"
    note = devices.note(asked("cuda"), "cpu", "network", TASK, plan="cluster")
    assert note == "on the CPU: its workers sum between CPUs"


def test_members_of_a_mean_on_the_cpu_ask_no_library_for_a_gpu(monkeypatch):
    def asked_for(*_, **__):
        raise AssertionError("LightGBM prints a line about CUDA when it is asked")

    monkeypatch.setattr(devices, "why_not", asked_for)
    members = [{"family": name, "weight": 1} for name in ("lightgbm", "xgboost")]
    mean = models.params_of("ensemble", {"members": members})
    job = TrainingJob(None, None, asked(), TASK, "ensemble", mean)
    assert [fitting._of_member(job, member).device for member in mean.members] == ["cpu", "cpu"]


@pytest.mark.parametrize(("families", "chosen"), [(("forest", "xgboost"), "cuda"), (("forest", "extra_trees"), "cpu")])
def test_a_mean_takes_a_gpu_for_a_member_that_can_use_it(one_gpu, families, chosen):
    members = [{"family": name, "weight": 1} for name in families]
    assert devices.choose(asked(), "ensemble", TASK, models.params_of("ensemble", {"members": members})) == chosen


def test_the_gpus_of_this_machine_are_those_that_its_driver_lists(tmp_path, monkeypatch):
    from mlsys.cluster import resources

    monkeypatch.setattr(resources, "NVIDIA", tmp_path / "gpus")
    assert cluster.num_gpus() == 0
    for name in ("0000:01:00.0", "0000:02:00.0"):
        (tmp_path / "gpus" / name).mkdir(parents=True)
    assert cluster.num_gpus() == 2


# What is asked of Ray


class Asked:
    """A remote function that notes its options and runs where it stands."""

    def __init__(self):
        self.options_of = []

    def __call__(self, function):
        self.function = function
        return self

    def options(self, **options):
        self.options_of.append(options)
        return self

    def remote(self, *args):
        return self.function(*args)


@pytest.fixture
def ray(monkeypatch):
    asked = Asked()
    monkeypatch.setattr(tasks, "remote", asked)
    monkeypatch.setattr(tasks, "_runs_here", lambda: False)
    monkeypatch.setattr(tasks, "_result", lambda result: result)
    return asked


def test_a_task_asks_for_a_gpu_only_where_it_needs_one(ray):
    assert cluster.call(max, 3, 4, threads=2, gpus=1) == 4
    assert cluster.call(max, 3, 4, threads=2) == 4
    with_gpu, without = ray.options_of
    assert with_gpu["num_gpus"] == 1
    assert "num_gpus" not in without


def test_the_final_fit_asks_for_the_gpu_and_names_it_in_the_provenance(tmp_path, one_gpu, monkeypatch):
    rng = np.random.default_rng(0)
    table = pa.table({"a": rng.normal(size=400), "y": rng.normal(size=400)})
    train = {"rounds": 5, "family": "xgboost"}
    rows = collected(tmp_path, table, split={"folds": 2}, train=train, selection={"families": ["xgboost"]})
    seen, call = [], cluster.call

    def noted(function, *args, gpus=0, **how):
        seen.append((function.__name__, gpus))
        return call(function, *args, **how)

    class OnCPU(xgboost.Booster):
        def __init__(self, params=None, *args, **how):
            super().__init__({k: v for k, v in (params or {}).items() if k != "device"}, *args, **how)

    monkeypatch.setattr(cluster, "call", noted)
    monkeypatch.setattr(xgboost, "Booster", OnCPU)
    made = rows.fit(rows.ranking(), "xgboost")
    assert made.provenance["device"] == "cuda"
    assert [name for name, gpus in seen if gpus] == ["fit_in_task"]


def test_a_model_of_the_cpu_says_nothing_of_devices(tmp_path):
    rng = np.random.default_rng(0)
    table = pa.table({"a": rng.normal(size=300), "y": rng.normal(size=300)})
    rows = collected(tmp_path, table, split={"folds": 2}, selection={"families": ["linear"]})
    assert "device" not in rows.fit(rows.ranking()).provenance


def test_workers_are_placed_on_machines_with_gpus():
    machines = [Resources(8, 64e9, 2), Resources(8, 64e9), Resources(4, 64e9, 1)]
    shape = place(machines, 1_000_000, 100, gpus=1)
    assert (shape.workers, shape.cpus, shape.gpus) == (3, 4.0, 1)
    assert shape.fits(machines)
    assert not shape.fits(machines[:2])
    assert str(shape).endswith(", 1 GPU each")
    assert place(machines, 1_000_000, 100).gpus == 0
    assert "GPU" not in str(place(machines, 1_000_000, 100))


def test_a_shape_from_before_there_were_gpus_is_read(tmp_path):
    (tmp_path / placement.FILE).write_text('{"workers": 2, "cpus": 1.0, "memory": 1000}')
    assert Placement.read(tmp_path) == Placement(2, 1.0, 1000)
    Placement(2, 1.0, 1000, 1).write(tmp_path)
    assert Placement.read(tmp_path).gpus == 1


@pytest.mark.parametrize("gpus", [0, 1])
def test_ray_train_is_asked_for_workers_with_a_gpu(tmp_path, monkeypatch, gpus):
    seen = {}

    class Trainer:
        def __init__(self, worker, **how):
            seen.update(how)

        def fit(self):
            return types.SimpleNamespace(return_value=b"model")

    monkeypatch.setitem(sys.modules, "trainer_of_a_test", types.SimpleNamespace(Trainer=Trainer))
    monkeypatch.setattr(XGBoostFamily, "trainer", "trainer_of_a_test:Trainer")
    job = types.SimpleNamespace(family="xgboost")
    work = distributed._Work(job, Placement(2, 3.0, 1000, gpus), tmp_path / "left", tmp_path / "note")
    assert distributed._run(work, tmp_path, "try-1") == b"model"
    scaling = seen["scaling_config"]
    assert (scaling.num_workers, scaling.use_gpu) == (2, gpus == 1)
    assert scaling.resources_per_worker == {"CPU": 3.0, "memory": 1000, **({"GPU": 1} if gpus else {})}
