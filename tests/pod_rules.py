"""Kubernetes' Pod Security Standard "restricted", and what we want beyond it, as functions over a pod's spec.

Source: https://kubernetes.io/docs/concepts/security/pod-security-standards/
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

Pod = Mapping[str, Any]
Container = Mapping[str, Any]
VOLUMES = {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"}
HOST = ("hostNetwork", "hostPID", "hostIPC")


def containers(pod: Pod) -> list[Container]:
    return [*pod["containers"], *pod.get("initContainers", [])]


def restricted(pod: Pod) -> list[str]:
    """What a namespace that enforces "restricted" would refuse."""
    found = [name for name in HOST if pod.get(name)]
    for volume in pod.get("volumes", []):
        found += [f"volume {kind}" for kind in volume.keys() - {"name"} - VOLUMES]
    for one in containers(pod):
        found += _refused(one, {**pod.get("securityContext", {}), **one.get("securityContext", {})})
    return found


def _refused(container: Container, context: Mapping[str, Any]) -> list[str]:
    """context: the container's own over the pod's."""
    capabilities = context.get("capabilities", {})
    faults = {
        "privileged": context.get("privileged"),
        "allowPrivilegeEscalation": context.get("allowPrivilegeEscalation") is not False,
        "capabilities": capabilities.get("drop") != ["ALL"] or capabilities.get("add"),
        "runAsNonRoot": context.get("runAsNonRoot") is not True,
        "runAsUser": context.get("runAsUser") == 0,
        "seccompProfile": context.get("seccompProfile", {}).get("type") not in ("RuntimeDefault", "Localhost"),
        "hostPort": any(port.get("hostPort") for port in container.get("ports", [])),
    }
    return [name for name, wrong in faults.items() if wrong]


def ours(pod: Pod) -> list[str]:
    """What we want beyond that."""
    found = [] if pod.get("automountServiceAccountToken") is False else ["automountServiceAccountToken"]
    loose = [one["name"] for one in pod.get("volumes", []) if "emptyDir" in one and "sizeLimit" not in one["emptyDir"]]
    found += [f"volume {name} is not bounded" for name in loose]
    return found + [fault for one in containers(pod) for fault in _unwanted(one)]


def _unwanted(container: Container) -> Iterator[str]:
    resources = container.get("resources", {})
    faults = {
        "readOnlyRootFilesystem": container.get("securityContext", {}).get("readOnlyRootFilesystem") is not True,
        "memory is not bounded": "memory" not in resources.get("limits", {}),
        "requests": not {"cpu", "memory"} <= resources.get("requests", {}).keys(),
        "readinessProbe": "readinessProbe" not in container,
        "livenessProbe": "livenessProbe" not in container,
    }
    yield from (name for name, wrong in faults.items() if wrong)
    for variable in container.get("env", []):
        if any(word in variable["name"] for word in ("PASSWORD", "SECRET")) and variable["value"][:1] != "/":
            yield f"{variable['name']} in the environment"
