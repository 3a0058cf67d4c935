"""JSON schemas of the objects in ``serve_configs/``: the fields that KubeRay 1.5 and Kubernetes know, none else.

No package of Python brings KubeRay's own definitions, against which a cluster checks them. This states names and types
of the fields that the files use, and of their neighbours, as in KubeRay's ``docs/reference/api.md`` (``ray.io/v1``) and
Kubernetes' *Pod v1 core*. Fields that KubeRay calls deprecated are left out.
"""

TEXT, WHOLE, YES_OR_NO = {"type": "string"}, {"type": "integer", "minimum": 0}, {"type": "boolean"}
TEXTS = {"type": "object", "additionalProperties": TEXT}
ANY = {"type": "object"}


def fields(required="", **known):
    return {"type": "object", "required": required.split(), "properties": known, "additionalProperties": False}


def several(item):
    return {"type": "array", "minItems": 1, "items": item}


QUANTITY = {"type": "string", "pattern": r"^\d+(\.\d+)?(m|k|Ki|M|Mi|G|Gi|T|Ti)?$"}
QUANTITIES = {"type": "object", "additionalProperties": QUANTITY}
VARIABLE = fields("name", name=TEXT, value=TEXT, valueFrom=ANY)
MOUNT = fields("name mountPath", name=TEXT, mountPath=TEXT, readOnly=YES_OR_NO, subPath=TEXT)
CONTAINER = fields(
    "name image", name=TEXT, image=TEXT, imagePullPolicy=TEXT, command=several(TEXT), args=several(TEXT),
    env=several(VARIABLE), envFrom=several(ANY), ports=several(ANY), securityContext=ANY, volumeMounts=several(MOUNT),
    resources=fields(requests=QUANTITIES, limits=QUANTITIES), lifecycle=ANY, livenessProbe=ANY, readinessProbe=ANY,
)  # fmt: skip
VOLUME = fields(
    "name", name=TEXT, persistentVolumeClaim=fields("claimName", claimName=TEXT, readOnly=YES_OR_NO),
    emptyDir=fields(medium={"enum": ["", "Memory"]}, sizeLimit=QUANTITY), secret=ANY, configMap=ANY,
)  # fmt: skip
POD = fields(
    "spec", metadata=ANY,
    spec=fields(
        "containers", containers=several(CONTAINER), initContainers=several(CONTAINER), volumes=several(VOLUME),
        nodeSelector=TEXTS, tolerations=several(ANY), serviceAccountName=TEXT, securityContext=ANY, affinity=ANY,
    ),
)  # fmt: skip
HEAD = fields(
    "template", template=POD, rayStartParams=TEXTS, serviceType=TEXT, headService=ANY, enableIngress=YES_OR_NO
)
WORKERS = fields(
    "groupName template", groupName=TEXT, replicas=WHOLE, minReplicas=WHOLE, maxReplicas=WHOLE, numOfHosts=WHOLE,
    rayStartParams=TEXTS, template=POD, scaleStrategy=ANY, suspend=YES_OR_NO, idleTimeoutSeconds=WHOLE,
)  # fmt: skip
CLUSTER = fields(
    "headGroupSpec", rayVersion=TEXT, headGroupSpec=HEAD, workerGroupSpecs=several(WORKERS), autoscalerOptions=ANY,
    enableInTreeAutoscaling=YES_OR_NO, gcsFaultToleranceOptions=ANY, suspend=YES_OR_NO,
    authOptions=fields(mode={"enum": ["token", "disabled"]}),
)  # fmt: skip
SPECS = {
    "RayJob": fields(
        "entrypoint", entrypoint=TEXT, rayClusterSpec=CLUSTER, runtimeEnvYAML=TEXT, jobId=TEXT, backoffLimit=WHOLE,
        submissionMode={"enum": ["K8sJobMode", "HTTPMode", "InteractiveMode", "SidecarMode"]}, clusterSelector=TEXTS,
        shutdownAfterJobFinishes=YES_OR_NO, ttlSecondsAfterFinished=WHOLE, activeDeadlineSeconds=WHOLE,
        entrypointNumCpus={"type": "number"}, entrypointNumGpus={"type": "number"}, entrypointResources=TEXT,
        submitterPodTemplate=POD, submitterConfig=ANY, deletionStrategy=ANY, suspend=YES_OR_NO, metadata=TEXTS,
    ),
    "RayService": fields(
        "serveConfigV2 rayClusterConfig", serveConfigV2=TEXT, rayClusterConfig=CLUSTER, serveService=ANY,
        upgradeStrategy=fields(type={"enum": ["NewCluster", "NewClusterWithIncrementalUpgrade", "None"]}),
        excludeHeadPodFromServeSvc=YES_OR_NO, rayClusterDeletionDelaySeconds=WHOLE,
    ),
}  # fmt: skip


def schema(kind):
    """The schema of an object of a kind."""
    api, metadata = {"const": "ray.io/v1"}, fields(name=TEXT, generateName=TEXT, namespace=TEXT, labels=TEXTS)
    return fields("apiVersion kind metadata spec", apiVersion=api, kind={"const": kind}, metadata=metadata,
                  spec=SPECS[kind])  # fmt: skip
