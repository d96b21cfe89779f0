"""Which keys a Job of Kubernetes has, with the types of their values, as the Python client has them, which is generated from
the published API. Writes tests/fixtures/kubernetes/job.json, a JSON Schema of the parts that `ftk batch --emit` uses; what
is in other parts is left open.

    pip install kubernetes==37.0.2    (needs no cluster)
    python tests/reference/kubernetes_jobs.py
"""

import inspect
import json
import pathlib
import re

from kubernetes import client

USED = {
    "V1Job", "V1ObjectMeta", "V1JobSpec", "V1PodTemplateSpec", "V1PodSpec", "V1Container", "V1EnvVar", "V1EnvVarSource",
    "V1ObjectFieldSelector", "V1ResourceRequirements", "V1VolumeMount", "V1Volume", "V1PersistentVolumeClaimVolumeSource",
    "V1PodFailurePolicy", "V1PodFailurePolicyRule", "V1PodFailurePolicyOnExitCodesRequirement",
    "V1PodFailurePolicyOnPodConditionsPattern",
}  # fmt: skip
PLAIN = {"str": "string", "int": "integer", "bool": "boolean", "float": "number"}


def schema(kind):
    if kind in PLAIN:
        return {"type": PLAIN[kind]}
    if found := re.fullmatch(r"[lL]ist\[(.*)\]", kind):
        return {"type": "array", "items": schema(found[1])}
    if found := re.fullmatch(r"[dD]ict[(\[]str, (.*)[)\]]", kind):
        return {"type": "object", "additionalProperties": schema(found[1])}
    if kind not in USED:
        return {}
    model = getattr(client, kind)
    # A setter refuses `None` for what the API requires.
    source = inspect.getsource(model)
    names = model.attribute_map
    required = [name for own, name in names.items() if f"Invalid value for `{own}`, must not be `None`" in source]
    properties = {names[own]: schema(value) for own, value in model.openapi_types.items()}
    return {"type": "object", "properties": properties, **({"required": sorted(required)} if required else {})}


if __name__ == "__main__":
    out = pathlib.Path(__file__).parents[1] / "fixtures/kubernetes/job.json"
    out.write_text(json.dumps(schema("V1Job"), indent=1, sort_keys=True) + "\n")
