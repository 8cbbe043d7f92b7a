"""Kubernetes' Pod Security Standard "restricted", and what we want beyond it, as functions over a pod's spec.

Source: https://kubernetes.io/docs/concepts/security/pod-security-standards/
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

Pod = Mapping[str, Any]
VOLUMES = {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"}
HOST = ("hostNetwork", "hostPID", "hostIPC")


def containers(pod: Pod) -> list[Mapping[str, Any]]:
    return [*pod["containers"], *pod.get("initContainers", [])]


def restricted(pod: Pod) -> Iterator[str]:
    """What a namespace that enforces "restricted" would refuse."""
    context = pod.get("securityContext", {})
    yield from (name for name in HOST if pod.get(name))
    for volume in pod.get("volumes", []):
        yield from (f"volume {kind}" for kind in volume.keys() - {"name"} - VOLUMES)
    for one in containers(pod):
        own = one.get("securityContext", {})
        if own.get("privileged"):
            yield "privileged"
        if own.get("allowPrivilegeEscalation") is not False:
            yield "allowPrivilegeEscalation"
        if own.get("capabilities", {}).get("drop") != ["ALL"] or own["capabilities"].get("add", []):
            yield "capabilities"
        if own.get("runAsNonRoot", context.get("runAsNonRoot")) is not True:
            yield "runAsNonRoot"
        if own.get("runAsUser", context.get("runAsUser", 1)) == 0:
            yield "runAsUser"
        profile = own.get("seccompProfile", context.get("seccompProfile", {})).get("type")
        if profile not in ("RuntimeDefault", "Localhost"):
            yield "seccompProfile"
        yield from ("hostPort" for port in one.get("ports", []) if port.get("hostPort"))


def ours(pod: Pod) -> Iterator[str]:
    """What we want beyond that."""
    if pod.get("automountServiceAccountToken") is not False:
        yield "automountServiceAccountToken"
    for volume in pod.get("volumes", []):
        if "emptyDir" in volume and "sizeLimit" not in volume["emptyDir"]:
            yield f"volume {volume['name']} is not bounded"
    for one in containers(pod):
        if one.get("securityContext", {}).get("readOnlyRootFilesystem") is not True:
            yield "readOnlyRootFilesystem"
        if "memory" not in one.get("resources", {}).get("limits", {}):
            yield "memory is not bounded"
        if not {"cpu", "memory"} <= one.get("resources", {}).get("requests", {}).keys():
            yield "requests"
        for probe in ("readinessProbe", "livenessProbe"):
            if probe not in one:
                yield probe
        for variable in one.get("env", []):
            if any(word in variable["name"] for word in ("PASSWORD", "SECRET")) and variable["value"][:1] != "/":
                yield f"{variable['name']} in the environment"
