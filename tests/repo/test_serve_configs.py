import importlib

import jsonschema
import pytest
import yaml

import kuberay
from pages import ROOT

FILES = sorted((ROOT / "serve_configs").glob("*.yaml"))


def documents(path):
    return [document for document in yaml.safe_load_all(path.read_text()) if document]


def configs():
    """Every Serve configuration: files for `serve deploy`, and those inside a RayService."""
    found = []
    for path in FILES:
        for document in documents(path):
            if "applications" in document:
                found.append(pytest.param(document, id=path.name))
            elif document.get("kind") == "RayService":
                found.append(pytest.param(yaml.safe_load(document["spec"]["serveConfigV2"]), id=path.name))
    return found


def test_there_are_configurations_for_a_cluster_and_for_kubernetes():
    kinds = {document.get("kind", "serve") for path in FILES for document in documents(path)}
    assert kinds >= {"serve", "RayJob", "RayService"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_a_file_is_a_serve_configuration_or_a_kubernetes_object(path):
    for document in documents(path):
        assert "applications" in document or {"apiVersion", "kind", "metadata", "spec"} <= set(document)


OBJECTS = [
    pytest.param(document, id=f"{path.name}-{document['kind']}")
    for path in FILES
    for document in documents(path)
    if "kind" in document
]


@pytest.mark.parametrize("document", OBJECTS)
def test_an_object_has_the_fields_that_kuberay_knows_and_no_other(document):
    jsonschema.validate(document, kuberay.schema(document["kind"]))


@pytest.mark.parametrize(
    "where", [("spec",), ("spec", "rayClusterConfig"), ("spec", "rayClusterConfig", "headGroupSpec")]
)
def test_a_field_that_kuberay_does_not_know_is_found(where):
    (document,) = documents(ROOT / "serve_configs" / "kuberay-service.yaml")
    place = document
    for name in where:
        place = place[name]
    place["serviceUnhealthySecondThreshold"] = 300
    with pytest.raises(jsonschema.ValidationError, match="serviceUnhealthySecondThreshold"):
        jsonschema.validate(document, kuberay.schema("RayService"))


@pytest.mark.parametrize("document", OBJECTS)
def test_head_and_workers_of_an_object_have_the_same_mode_of_serve(document):
    """Serve's proxy, and so its ports, differ by these variables."""
    cluster = document["spec"].get("rayClusterConfig") or document["spec"]["rayClusterSpec"]
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    modes = [
        {each["name"]: each["value"] for each in container["env"]}
        for group in groups
        for container in group["template"]["spec"]["containers"]
    ]
    assert all(mode == modes[0] for mode in modes)


@pytest.mark.parametrize("config", configs())
def test_serve_accepts_the_configuration(config):
    from ray.serve.schema import ServeDeploySchema

    parsed = ServeDeploySchema.model_validate(config)
    assert parsed.applications
    assert config.get("http_options", {}).get("host"), "without a host, Serve listens on all interfaces"


@pytest.mark.parametrize("config", configs())
def test_the_import_path_leads_to_the_application(config):
    for application in config["applications"]:
        module, _, name = application["import_path"].rpartition(":" if ":" in application["import_path"] else ".")
        assert hasattr(importlib.import_module(module), name)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_a_ray_job_starts_a_file_of_this_repository(path):
    for document in documents(path):
        if document.get("kind") == "RayJob":
            scripts = [word for word in document["spec"]["entrypoint"].split() if word.endswith(".py")]
            assert scripts
            assert all((ROOT / script).is_file() for script in scripts)
