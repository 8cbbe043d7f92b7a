"""deploy/kubernetes and deploy/kserve, as far as they can be tried without a cluster."""

from __future__ import annotations

import copy
from functools import cache
from typing import Any

import pytest
import yaml
from compose_rules import seconds, services
from pod_rules import ours, restricted
from tool_rig import ROOT, run, tool

from serving.settings import Settings
from serving.telemetry import Meters, Stages

FOLDER = ROOT / "deploy/kubernetes"
OVERLAYS = ("cpu", "gpu")
OWNERS = ("Deployment", "StatefulSet")
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
KSERVE = yaml.safe_load((ROOT / "deploy/kserve/inferenceservice.yaml").read_text())
ADAPTER = yaml.safe_load((FOLDER / "prometheus-adapter.yaml").read_text())


@cache
def built(overlay: str) -> list[dict[str, Any]]:
    """What `kubectl apply -k` would send."""
    return list(yaml.safe_load_all(run("kubectl", "kustomize", FOLDER / "overlays" / overlay)))


def find(overlay: str, kind: str, name: str) -> dict[str, Any]:
    [found] = [one for one in built(overlay) if (one["kind"], one["metadata"]["name"]) == (kind, name)]
    return found


def pods(overlay: str) -> dict[str, dict[str, Any]]:
    owners = [one for one in built(overlay) if one["kind"] in OWNERS]
    return {one["metadata"]["name"]: one["spec"]["template"]["spec"] for one in owners}


def environment(pod: dict[str, Any]) -> dict[str, str]:
    return {one["name"]: one["value"] for one in pod["containers"][0]["env"]}


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_a_cluster_would_take_every_manifest(overlay):
    tool("kubernetes-validate")
    import kubernetes_validate

    for one in built(overlay):
        kubernetes_validate.validate(one, kubernetes_validate.latest_version(), strict=True)


def test_a_manifest_with_a_slip_would_not_be_taken():
    tool("kubernetes-validate")
    import kubernetes_validate

    wrong = copy.deepcopy(find("cpu", "Deployment", "gateway"))
    wrong["spec"]["template"]["spec"]["containers"][0]["readynessProbe"] = {}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, kubernetes_validate.latest_version(), strict=True)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_everything_is_in_one_namespace_that_enforces_the_restricted_standard(overlay):
    namespace = find(overlay, "Namespace", "tidegate")
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    others = [one["metadata"] for one in built(overlay) if one["kind"] != "Namespace"]
    assert {one["namespace"] for one in others} == {"tidegate"}


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_pods_keep_the_restricted_standard_and_our_own_rules(overlay):
    assert pods(overlay)
    assert {name: wrong for name, pod in pods(overlay).items() if (wrong := restricted(pod) + ours(pod))} == {}


BREAKS: dict[str, tuple[str, Any]] = {
    "hostNetwork": ("hostNetwork", True),
    "volume hostPath": ("volumes.0", {"name": "models", "hostPath": {"path": "/"}}),
    "privileged": ("containers.0.securityContext.privileged", True),
    "allowPrivilegeEscalation": ("containers.0.securityContext.allowPrivilegeEscalation", None),
    "capabilities": ("containers.0.securityContext.capabilities", {"drop": ["ALL"], "add": ["NET_ADMIN"]}),
    "runAsNonRoot": ("securityContext.runAsNonRoot", None),
    "runAsUser": ("securityContext.runAsUser", 0),
    "seccompProfile": ("securityContext.seccompProfile", {"type": "Unconfined"}),
    "hostPort": ("containers.0.ports.0.hostPort", 80),
    "automountServiceAccountToken": ("automountServiceAccountToken", None),
    "volume tmp is not bounded": ("volumes.2", {"name": "tmp", "emptyDir": {}}),
    "readOnlyRootFilesystem": ("containers.0.securityContext.readOnlyRootFilesystem", False),
    "memory is not bounded": ("containers.0.resources.limits", {}),
    "requests": ("containers.0.resources.requests", {"cpu": "1"}),
    "readinessProbe": ("containers.0.readinessProbe", None),
    "X_PASSWORD in the environment": ("containers.0.env.0", {"name": "X_PASSWORD", "value": "secret"}),
}


@pytest.mark.parametrize("rule", BREAKS)
def test_a_change_breaks_this_rule_and_no_other(rule):
    where, value = BREAKS[rule]
    pod = copy.deepcopy(pods("cpu")["gateway"])
    *path, last = (int(name) if name.isdecimal() else name for name in where.split("."))
    place: Any = pod
    for name in path:
        place = place[name]
    if value is None:
        del place[last]
    else:
        place[last] = value
    assert restricted(pod) + ours(pod) == [rule]


@pytest.mark.parametrize(("overlay", "service"), [("cpu", "gateway-cpu"), ("gpu", "gateway")])
def test_gateways_are_told_the_same_as_in_the_compose_file(overlay, service):
    here, there = environment(pods(overlay)["gateway"]), services(COMPOSE)[service]["environment"]
    elsewhere = {"TIDEGATE_KEYS", "TIDEGATE_REDIS_PASSWORD_FILE", "TIDEGATE_TRITON_HOST"}
    assert here.keys() == there.keys()
    assert {name for name in here if here[name] != there[name]} == elsewhere & here.keys()


@pytest.mark.parametrize("name", ["redis", "triton"])
def test_images_and_flags_are_those_of_the_compose_file(name):
    [container] = pods("gpu")[name]["containers"]
    there = services(COMPOSE)[name]
    assert (container["image"], container["args"]) == (there["image"], there["command"])
    assert str(pods("gpu")[name]["securityContext"]["runAsUser"]) == there["user"].partition(":")[0]


def test_the_cluster_has_our_redis_conf():
    [config] = [one for one in built("cpu") if one["kind"] == "ConfigMap"]
    assert config["data"]["redis.conf"] == (ROOT / "deploy/redis/redis.conf").read_text()
    volumes = {one["name"]: one for one in pods("cpu")["redis"]["volumes"]}
    assert volumes["config"]["configMap"]["name"] == config["metadata"]["name"]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_gateways_drain_before_they_are_ended(overlay):
    pod = pods(overlay)["gateway"]
    [container] = pod["containers"]
    drain = sum(float(environment(pod)[f"TIDEGATE_DRAIN_{word}_S"]) for word in ("DELAY", "TIMEOUT"))
    paused = container["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert pod["terminationGracePeriodSeconds"] > paused + drain
    probe = container["readinessProbe"]
    assert probe["httpGet"]["path"] == "/readyz"
    assert probe["periodSeconds"] * probe["failureThreshold"] <= paused, "it is taken out while it still answers"
    assert container["livenessProbe"]["httpGet"]["path"] == "/livez", "a gateway that is not ready is not killed"
    assert seconds(services(COMPOSE)["gateway"]["stop_grace_period"]) > drain


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_no_two_gateways_are_taken_away_at_once(overlay):
    budget = find(overlay, "PodDisruptionBudget", "gateway")
    assert budget["spec"]["maxUnavailable"] == 1
    assert find(overlay, "Deployment", "gateway")["spec"]["strategy"]["rollingUpdate"]["maxUnavailable"] == 0
    assert find(overlay, "HorizontalPodAutoscaler", "gateway")["spec"]["minReplicas"] >= 2
    assert "replicas" not in find(overlay, "Deployment", "gateway")["spec"], "the autoscaler has them"


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_autoscaling_goes_by_a_metric_that_gateways_have(overlay):
    [metric] = find(overlay, "HorizontalPodAutoscaler", "gateway")["spec"]["metrics"]
    [rule] = ADAPTER["rules"]
    assert metric["pods"]["metric"]["name"] == rule["name"]["as"]
    meters = Meters()
    meters.request_meter("a", 1, "classify").answered(0.1, Stages())
    exposed = meters.exposition().decode()
    for name in ("tidegate_stage_duration_seconds_sum", "tidegate_stage_duration_seconds_count"):
        assert name in rule["metricsQuery"]
        assert f"{name}{{" in exposed
    assert 'stage="queue"' in exposed


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_services_and_policies_choose_pods_that_there_are(overlay):
    owners = [one for one in built(overlay) if one["kind"] in OWNERS]
    labels = [one["spec"]["template"]["metadata"]["labels"] for one in owners]
    ports = {port["name"] for pod in pods(overlay).values() for port in pod["containers"][0]["ports"]}

    def chosen(selector: dict[str, str]) -> bool:
        return any(selector.items() <= one.items() for one in labels)

    for one in built(overlay):
        if one["kind"] == "Service":
            assert chosen(one["spec"]["selector"]), one["metadata"]["name"]
            assert {port["targetPort"] for port in one["spec"]["ports"]} <= ports
        if one["kind"] == "NetworkPolicy" and one["metadata"]["name"] != "nobody":
            assert chosen(one["spec"]["podSelector"]["matchLabels"]), one["metadata"]["name"]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_nobody_but_gateways_reaches_redis_and_triton(overlay):
    nobody = find(overlay, "NetworkPolicy", "nobody")["spec"]
    assert (nobody["podSelector"], nobody["policyTypes"]) == ({}, ["Ingress", "Egress"])
    assert "ingress" not in nobody
    gateways = {"podSelector": {"matchLabels": {"app.kubernetes.io/name": "gateway"}}}
    monitoring = {"namespaceSelector": {"matchLabels": {"tidegate": "monitoring"}}}
    for name in pods(overlay).keys() - {"gateway"}:
        spec = find(overlay, "NetworkPolicy", name)["spec"]
        assert spec["ingress"][0]["from"] == [gateways]
        assert [one["from"] for one in spec["ingress"][1:]] in ([], [[monitoring]])
        assert "egress" not in spec
    out = find(overlay, "NetworkPolicy", "gateway")["spec"]["egress"]
    reached = {to["podSelector"]["matchLabels"]["app.kubernetes.io/name"] for one in out for to in one["to"][:1]
               if "podSelector" in to}  # fmt: skip
    assert reached == pods(overlay).keys() - {"gateway"}


def test_triton_has_a_gpu_of_its_own_and_no_twin():
    triton = find("gpu", "Deployment", "triton")["spec"]
    assert (triton["replicas"], triton["strategy"]["type"]) == (1, "Recreate")
    resources = triton["template"]["spec"]["containers"][0]["resources"]
    assert resources["limits"]["nvidia.com/gpu"] == resources["requests"]["nvidia.com/gpu"] == 1
    assert not [one for one in built("cpu") if one["metadata"]["name"] == "triton"]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_secrets_are_named_and_not_made(overlay):
    assert not [one for one in built(overlay) if one["kind"] == "Secret"]
    volumes = [one for pod in pods(overlay).values() for one in pod["volumes"]]
    named = {one["secret"]["secretName"] for one in volumes if "secret" in one}
    assert named == {"tidegate-keys", "tidegate-redis"}
    readme = (FOLDER / "README.md").read_text()
    assert all(f"create secret generic {name} " in readme for name in named)


def test_kserve_gets_a_predictor_that_a_cluster_would_take():
    """Its own definition is KServe's; the pod within is Kubernetes'."""
    tool("kubernetes-validate")
    import kubernetes_validate

    assert (KSERVE["apiVersion"], KSERVE["kind"]) == ("serving.kserve.io/v1beta1", "InferenceService")
    predictor = dict(KSERVE["spec"]["predictor"])
    for name in ("minReplicas", "maxReplicas", "timeout"):
        assert isinstance(predictor.pop(name), int)
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "predictor"}, "spec": predictor}
    kubernetes_validate.validate(pod, kubernetes_validate.latest_version(), strict=True)
    assert restricted(predictor) + ours(predictor) == []
    [container] = predictor["containers"]
    assert container["name"] == "kserve-container"
    assert container["image"] == services(COMPOSE)["gateway"]["image"]
    known = {f"TIDEGATE_{name.upper()}" for name in Settings.model_fields}
    assert environment(predictor).keys() - known == {"STORAGE_URI"}
    drain = sum(float(environment(predictor)[f"TIDEGATE_DRAIN_{word}_S"]) for word in ("DELAY", "TIMEOUT"))
    assert predictor["terminationGracePeriodSeconds"] > drain
