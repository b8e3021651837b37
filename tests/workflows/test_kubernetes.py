"""Kubernetes: what its words mean (without one), and the document's examples on a real control plane."""

from __future__ import annotations

import base64
import json
import threading
import time
from collections.abc import Iterator
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml
from kubernetes.config import incluster_config

from tests.base import wait_until
from tests.workflows.conftest import service, status_of
from tests.workflows.hosted import KEY, REF, plan
from tests.workflows.testbeds import RIGHTS, start_cluster
from workflows_app import services, steps
from workflows_app.drivers import kubernetes
from workflows_app.drivers.base import Probe, RuntimeFault, Strategy
from workflows_app.drivers.kubernetes import KubernetesRuntime
from workflows_app.drivers.kubernetes_objects import (
    deployment,
    network_service,
    newest_hash,
    pod_status,
    rollout_of,
    service_states,
    warnings_by_pod,
)
from workflows_app.models import Deployment

# -- without a cluster --------------------------------------------------------------------------------


def pod(status: dict[str, Any], **metadata: Any) -> dict[str, Any]:
    return {
        "metadata": {
            "name": "p",
            "creationTimestamp": "2026-11-22T10:00:00Z",
            "labels": {"muster.local/service": "web", "pod-template-hash": "abc"},
            **metadata,
        },
        "spec": {"containers": [{"ports": [{"containerPort": 8080}]}]},
        "status": status,
    }


def container(state: dict[str, Any], **values: Any) -> dict[str, Any]:
    return {"containerStatuses": [{"state": state, "restartCount": 0, **values}], "phase": "Running"}


def unscheduled(reason: str, message: str) -> dict[str, Any]:
    condition = {"type": "PodScheduled", "status": "False", "reason": reason, "message": message}
    return {"phase": "Pending", "conditions": [condition]}


@pytest.mark.parametrize(
    ("status", "metadata", "expected"),
    [
        ({"phase": "Pending"}, {}, ("Pending", "")),
        (
            unscheduled("Unschedulable", "0/2 nodes are available.."),
            {},
            ("Unschedulable", "0/2 nodes are available.."),
        ),
        (unscheduled("SchedulingGated", ""), {}, ("SchedulingGated", "")),
        (container({"waiting": {"reason": "ContainerCreating"}}), {}, ("ContainerCreating", "")),
        (
            container({"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 10s"}}),
            {},
            ("CrashLoopBackOff", "back-off 10s"),
        ),
        (container({"running": {}}), {}, ("Running", "")),
        (
            container(
                {"waiting": {"reason": "ErrImagePull", "message": "rpc error: code = NotFound"}},
            ),
            {},
            ("ErrImagePull", "rpc error: code = NotFound"),
        ),
        (
            container({"terminated": {"reason": "OOMKilled", "exitCode": 137}}),
            {},
            ("OOMKilled", "exit code 137"),
        ),
        # A crash loop says how it ended, too: its own message is about the pause alone.
        (
            container(
                {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 20s"}},
                lastState={"terminated": {"reason": "OOMKilled", "exitCode": 137}},
            ),
            {},
            ("CrashLoopBackOff", "back-off 20s; ended before: OOMKilled, exit code 137"),
        ),
        (
            container(
                {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 20s"}},
                lastState={"terminated": {"reason": "Error", "exitCode": 3, "message": "no such host\n"}},
            ),
            {},
            ("CrashLoopBackOff", "back-off 20s; ended before: Error, exit code 3 (no such host)"),
        ),
        (
            {**container({"running": {}}), "reason": "NodeLost", "message": "node n which was running pod p"},
            {"deletionTimestamp": "2026-11-22T10:00:00Z"},
            ("Unknown", ""),
        ),
        (container({"terminated": {"exitCode": 3}}), {}, ("ExitCode:3", "")),
        (container({"terminated": {"exitCode": 0, "signal": 9}}), {}, ("Signal:9", "")),
        (
            {"phase": "Failed", "reason": "Evicted", "message": "low on memory"},
            {},
            ("Evicted", "low on memory"),
        ),
        (container({"running": {}}), {"deletionTimestamp": "2026-11-22T10:00:00Z"}, ("Terminating", "")),
        (
            {
                "initContainerStatuses": [
                    {"state": {"terminated": {"exitCode": 0}}},
                    {"state": {"running": {}}},
                ]
            },
            {},
            ("Init:1/2", ""),
        ),
        (
            {"initContainerStatuses": [{"state": {"terminated": {"exitCode": 1, "reason": "Error"}}}]},
            {},
            ("Init:Error", "exit code 1"),
        ),
        (
            {
                "initContainerStatuses": [{"state": {"waiting": {"reason": "PodInitializing"}}}],
                "phase": "Pending",
            },
            {},
            ("Init:0/1", ""),
        ),
        (
            {
                "phase": "Running",
                "containerStatuses": [
                    {"state": {"waiting": {"reason": "ImagePullBackOff", "message": "m"}}},
                    {"state": {"terminated": {"reason": "Error", "exitCode": 1}}},
                ],
            },
            {},
            ("ImagePullBackOff", "m"),
        ),
        (
            {
                "phase": "Running",
                "containerStatuses": [
                    {"state": {"terminated": {"reason": "Completed", "exitCode": 0}}},
                    {"state": {"running": {}}, "ready": True},
                ],
            },
            {},
            ("NotReady", ""),
        ),
    ],
)
def test_a_pods_status_is_kubectls_column(status, metadata, expected):
    assert pod_status(pod(status, **metadata)) == expected


def rolled(generation: int = 1, observed: int = 1, replicas: int = 1, **conditions: tuple[str, str, str]):
    return {
        "metadata": {"generation": generation, "labels": {"muster.local/service": "web"}, "namespace": "n"},
        "spec": {"replicas": 1, "template": {"spec": {}}},
        "status": {
            "observedGeneration": observed,
            "replicas": replicas,
            "conditions": [
                {"type": kind, "status": status, "reason": reason, "message": message}
                for kind, (status, reason, message) in conditions.items()
            ],
        },
    }


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        # A stale read right after a change: the conditions still speak of what was before.
        (
            rolled(2, 1, Progressing=("True", "NewReplicaSetAvailable", "")),
            ("InProgress", "RollingOutReplicaSet", ""),
        ),
        (rolled(Progressing=("True", "NewReplicaSetAvailable", "x")), ("Complete", "", "")),
        # Sticky: later crashes show in Available alone.
        (
            rolled(
                Progressing=("True", "NewReplicaSetAvailable", ""),
                Available=("False", "MinimumReplicasUnavailable", ""),
            ),
            ("Complete", "", ""),
        ),
        # Scaled beyond a quota: rolled out it stays, and what hinders it is told.
        (
            rolled(
                Progressing=("True", "NewReplicaSetAvailable", ""),
                ReplicaFailure=("True", "FailedCreate", "exceeded quota"),
            ),
            ("Complete", "", "exceeded quota"),
        ),
        (rolled(Progressing=("True", "ReplicaSetUpdated", "")), ("InProgress", "RollingOutReplicaSet", "")),
        (
            rolled(Progressing=("True", "NewReplicaSetCreated", "")),
            ("InProgress", "RollingOutReplicaSet", ""),
        ),
        (
            rolled(Progressing=("False", "ProgressDeadlineExceeded", "timed out")),
            ("Failed", "ProgressDeadlineExceeded", "timed out"),
        ),
        (
            rolled(
                replicas=0,
                Progressing=("True", "NewReplicaSetCreated", ""),
                ReplicaFailure=("True", "FailedCreate", "exceeded quota"),
            ),
            ("Failed", "ReplicaFailure", "exceeded quota"),
        ),
        (
            rolled(
                replicas=2,
                Progressing=("True", "ReplicaSetUpdated", ""),
                ReplicaFailure=("True", "FailedCreate", "exceeded quota"),
            ),
            ("InProgress", "RollingOutReplicaSet", "exceeded quota"),
        ),
        (
            rolled(Progressing=("False", "ReplicaSetCreateError", "no")),
            ("Failed", "ReplicaFailure", "no"),
        ),
        (
            rolled(Progressing=("Unknown", "DeploymentPaused", "paused")),
            ("InProgress", "DeploymentPaused", "paused"),
        ),
        (rolled(), ("InProgress", "RollingOutReplicaSet", "")),
    ],
)
def test_the_rollout_is_read_from_generations_then_conditions(given, expected):
    assert rollout_of(given) == expected


def test_the_newest_replica_set_is_the_deployments_own_of_its_revision():
    def replica_set(revision: str, template: str, owner: str = "u"):
        return {
            "metadata": {
                "annotations": {"deployment.kubernetes.io/revision": revision},
                "labels": {"pod-template-hash": template},
                "ownerReferences": [{"uid": owner}],
            }
        }

    each = rolled()
    each["metadata"] |= {"uid": "u", "annotations": {"deployment.kubernetes.io/revision": "2"}}
    sets = [replica_set("1", "old"), replica_set("2", "other", "v"), replica_set("2", "new")]
    assert newest_hash(each, sets) == "new"
    assert newest_hash({**each, "metadata": {**each["metadata"], "generation": 9}}, sets) == ""


def test_pods_are_ready_available_and_addressed_by_their_conditions():
    ready = {"type": "Ready", "status": "True", "lastTransitionTime": "2020-01-01T00:00:00Z"}
    status = {**container({"running": {}}), "conditions": [ready], "podIP": "fd00::1", "startTime": None}
    each = rolled()
    each["spec"]["minReadySeconds"] = 5
    (state,) = service_states([each], [], [pod(status)])
    (replica,) = state.replicas
    assert (replica.ready, replica.available, replica.at_latest) == (True, True, False)
    assert (replica.address, replica.started_at) == ("http://[fd00::1]:8080", None)
    ready["lastTransitionTime"] = "2999-01-01T00:00:00Z"
    assert service_states([each], [], [pod(status)])[0].replicas[0].available is False


def test_a_pod_that_says_nothing_is_explained_by_its_newest_warning():
    def event(reason: str, message: str, at: str, **more: Any) -> dict[str, Any]:
        pointed = {"involvedObject": {"uid": "u"}, "type": "Warning", "lastTimestamp": at}
        return {**pointed, "reason": reason, "message": message, **more}

    warnings = warnings_by_pod(
        [
            event("FailedMount", "MountVolume.SetUp failed: secret not found", "2026-11-22T10:02:00Z"),
            event("FailedMount", "older", "2026-11-22T10:01:00Z"),
            event("FailedScheduling", "0/2 nodes are available", "2026-11-22T10:03:00Z"),
            event("Pulled", "fine", "2026-11-22T10:04:00Z", type="Normal"),
        ]
    )
    assert warnings == {"u": "MountVolume.SetUp failed: secret not found"}
    creating = container({"waiting": {"reason": "ContainerCreating"}})
    for status, expected in [
        (creating, warnings["u"]),
        (unscheduled("Unschedulable", "the scheduler's"), "the scheduler's"),
        ({**container({"running": {}}), "conditions": [{"type": "Ready", "status": "True"}]}, ""),
    ]:
        (state,) = service_states([rolled()], [], [pod(status, uid="u")], "pod", warnings)
        assert state.replicas[0].message == expected


def test_of_pods_that_are_over_the_newest_are_shown():
    evicted = [
        pod(
            {"phase": "Failed", "reason": "Evicted"},
            name=f"p{day}",
            creationTimestamp=f"2026-11-0{day}T10:00:00Z",
        )
        for day in range(1, 9)
    ]
    (state,) = service_states([rolled()], [], [*evicted, pod(container({"running": {}}), name="now")])
    assert [replica.name for replica in state.replicas] == ["p6", "p7", "p8", "now"]


def test_pods_without_their_deployment_are_what_is_left():
    (state,) = service_states(
        [], [], [pod(container({"running": {}}), deletionTimestamp="2026-11-22T10:00:00Z")]
    )
    assert (state.id, state.desired, state.actual, state.replicas[0].state) == ("web", 0, 0, "Terminating")


def test_objects_hold_what_was_asked_for():
    wanted = plan(
        image="a:1",
        command=("run",),
        args=("fast",),
        replicas=2,
        cpu=0.5,
        memory=2**28,
        environment={"A": "b"},
        probe=Probe("tcp", period_seconds=0.2),
        strategy=Strategy(max_surge=0, max_unavailable="0%"),
        annotations={"x": "y"},
        drain_seconds=3,
        stop_seconds=10,
    )
    (only,) = wanted.services
    made = deployment(wanted, only)
    assert json.loads(json.dumps(made)) == made
    spec = made["spec"]["template"]["spec"]
    (one,) = spec["containers"]
    assert (one["image"], one["command"], one["args"]) == ("a:1", ["run"], ["fast"])
    assert one["resources"]["limits"] == {"cpu": "500m", "memory": str(2**28)} == one["resources"]["requests"]
    assert {"name": "A", "value": "b"} in one["env"]
    assert {"name": "MUSTER_SERVICE_WEB", "value": f"http://{only.id}:8080"} in one["env"]
    assert one["readinessProbe"]["tcpSocket"] == {"port": 8080}
    assert one["readinessProbe"]["periodSeconds"] == 1
    assert one["lifecycle"]["preStop"]["exec"]["command"] == ["sleep", "3"]
    assert spec["terminationGracePeriodSeconds"] == 13
    assert made["spec"]["strategy"]["rollingUpdate"] == {"maxSurge": 0, "maxUnavailable": 1}
    assert made["spec"]["template"]["metadata"]["annotations"] == {"x": "y"}
    assert network_service(wanted, only)["spec"]["ports"][0]["targetPort"] == 8080


@pytest.mark.parametrize(
    ("settings", "secrets"),
    [
        ({"kubeconfig_path": "/no/such/file"}, {}),
        ({}, {"kubeconfig": "token: s3cr3t-s3cr3t ]["}),
        ({}, {"kubeconfig": "{}"}),
        ({}, {"kubeconfig": "just text s3cr3t-s3cr3t"}),
        ({"in_cluster": True}, {}),
    ],
)
def test_credentials_that_are_none_are_a_permanent_fault_that_quotes_nothing(settings, secrets):
    with pytest.raises(RuntimeFault) as refused:
        KubernetesRuntime("k", settings, secrets).observe(REF)
    assert refused.value.permanent
    assert "s3cr3t" not in str(refused.value)


def test_a_cluster_that_does_not_answer_is_a_fault_that_may_pass():
    config = {
        "clusters": [{"name": "c", "cluster": {"server": "https://127.0.0.1:9"}}],
        "users": [{"name": "u", "user": {"token": "s3cr3t"}}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    }
    with pytest.raises(RuntimeFault, match="does not answer") as fault:
        KubernetesRuntime("k", {}, {"kubeconfig": json.dumps(config)}).observe(REF)
    assert not fault.value.permanent


# -- with a real control plane ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    yield from start_cluster()


@pytest.fixture
def driver(cluster) -> KubernetesRuntime:
    return KubernetesRuntime("real", {}, {"kubeconfig": cluster.kubeconfig.read_text()})


def reconciled(workflow_id: str) -> None:
    """One pass now, as if its time had come."""
    from django.utils import timezone

    Deployment.objects.filter(pk=workflow_id).update(due_at=timezone.now(), claimed_until=None)
    steps.reconcile(workflow_id)


@pytest.mark.kubernetes
@pytest.mark.django_db
def test_the_documents_examples_on_a_real_control_plane(client, cluster, olga, key, gateway):
    runtime = services.create_runtime(
        name="real", kind="kubernetes", settings={"kubeconfig": cluster.kubeconfig.read_text()}, actor=olga
    )
    slow = service(
        "knowledge-m", annotations={"fake/ready-delay": "2"}, readiness={"kind": "http"}, min_ready_seconds=0
    )
    workflow = services.create_workflow(actor=olga, runtime=runtime, name="real", services=[slow])
    services.publish_workflow(workflow=workflow, actor=olga)

    def document() -> dict[str, Any]:
        reconciled(workflow.pk)
        return status_of(client, workflow.pk, key).json()

    def replicas() -> list[dict[str, Any]]:
        return document()["details"]["services"][0]["replicasDetail"]

    # No node at all: the scheduler's sentence.
    wait_until(lambda: any(each["status"] == "Unschedulable" for each in replicas()), what="the scheduler")
    shown = document()
    (only,) = shown["details"]["services"]
    assert (shown["actualStatus"], only["status"], only["rolloutStatus"]) == ("ORANGE", "RED", "InProgress")
    (replica,) = only["replicasDetail"]
    assert replica["statusMessage"] == "no nodes available to schedule pods"
    assert "startedAt" not in replica
    assert replica["age"].endswith("s")
    assert replica["atLatestSpec"]
    assert len(replica["name"]) == 63
    cluster.add_nodes(2)
    wait_until(lambda: any(each["status"] == "ContainerCreating" for each in replicas()), limit=120)
    wait_until(lambda: document()["actualStatus"] == "GREEN", limit=120, what="GREEN")
    (only,) = document()["details"]["services"]
    assert (only["actual"], only["rolloutStatus"]) == (1, "Complete")
    assert "rolloutStatusReason" not in only
    assert "startedAt" in only["replicasDetail"][0]
    services.unpublish_workflow(workflow=workflow, actor=olga)
    wait_until(
        lambda: document() == {
            "desiredStatus": "UNPUBLISHED", "actualStatus": "GREEN", "publishingMode": "SYNC", "details": {}
        },
        limit=120,
        what="nothing left",
    )  # fmt: skip
    assert "depl-" not in cluster.kubectl("get", "deployments,pods,services", "-o", "name")
    cluster.remove_nodes()


@pytest.mark.kubernetes
def test_changes_are_told_by_a_watch_and_nothing_is_polled(cluster, driver):
    told: list[str] = []
    stop = threading.Event()
    watcher = threading.Thread(target=driver.watch, args=(stop, told.extend), daemon=True)
    watcher.start()
    wanted = plan(image="a:1", probe=None)
    driver.apply(wanted)
    wait_until(lambda: REF in told, what="word of the change")
    wait_until(lambda: driver.observe(REF).services[0].replicas)
    told.clear()
    cluster.kubectl("annotate", "pods", "--all", "--overwrite", f"seen={time.time_ns()}")
    wait_until(lambda: REF in told, what="word of a pod")
    driver.remove(REF)
    wait_until(lambda: not driver.observe(REF).services)
    stop.set()


@pytest.mark.kubernetes
def test_a_quota_is_told_in_kubernetes_own_words(cluster, driver):
    cluster.kubectl("create", "quota", "tight", "--hard=pods=0")
    try:
        driver.apply(plan(image="a:1", probe=None, progress_deadline_seconds=20))
        seen: list[Any] = []

        def failed() -> bool:
            seen[:] = driver.observe(REF).services
            return bool(seen) and seen[0].rollout == "Failed"

        wait_until(failed, what="the refusal")
        assert seen[0].reason == "ReplicaFailure"
        assert "exceeded quota: tight" in seen[0].message
        assert seen[0].replicas == ()
    finally:
        cluster.kubectl("delete", "quota", "tight")
        driver.remove(REF)
    wait_until(lambda: not driver.observe(REF).services)


@pytest.mark.kubernetes
def test_what_others_change_or_delete_is_noticed_and_undone(cluster, driver):
    wanted = plan(image="a:1", probe=None)
    driver.apply(wanted)
    assert driver.observe(REF).digest == wanted.digest()
    name = f"deployment/depl-{KEY}-{REF}"

    def present(path: str) -> str:
        return cluster.kubectl("get", name, "-o", f"jsonpath={{{path}}}")

    def undone() -> bool:
        """Noticed, and after one more `apply` as it was."""
        noticed = driver.observe(REF).digest == ""
        driver.apply(wanted)
        return noticed and driver.observe(REF).digest == wanted.digest()

    cluster.kubectl("scale", name, "--replicas=3")
    assert undone()
    assert present(".spec.replicas") == "1"
    cluster.kubectl("set", "image", name, "web=b:2")
    assert undone()
    assert present(".spec.template.spec.containers[0].image") == "a:1"
    cluster.kubectl("delete", f"service/{KEY}")
    assert undone()
    assert cluster.kubectl("get", f"service/{KEY}", "-o", "name").strip() == f"service/{KEY}"
    # What an autoscaler changes is its own affair.
    cluster.kubectl("autoscale", name, "--max=5")
    cluster.kubectl("scale", name, "--replicas=2")
    assert driver.observe(REF).digest == wanted.digest()
    cluster.kubectl("delete", "hpa", "--all")
    driver.remove(REF)
    wait_until(lambda: not driver.observe(REF).services)


@pytest.mark.kubernetes
def test_what_kubernetes_refuses_is_permanent_and_in_its_words(driver):
    with pytest.raises(RuntimeFault, match=r"Kubernetes refuses: .*not ok") as fault:
        driver.apply(plan(image="a:1", annotations={"not ok": "x"}))
    assert fault.value.permanent
    driver.remove(REF)
    elsewhere = KubernetesRuntime("real", {"namespace": "nowhere"}, driver._secrets)
    with pytest.raises(RuntimeFault, match="nowhere"):
        elsewhere.apply(plan(image="a:1"))


@pytest.mark.kubernetes
def test_inside_the_cluster_the_service_account_with_its_rights_is_enough(cluster, tmp_path, monkeypatch):
    cluster.kubectl("create", "namespace", "inside")
    (tmp_path / "rights.yaml").write_text(RIGHTS)
    cluster.kubectl("--namespace", "inside", "apply", "--filename", str(tmp_path / "rights.yaml"))
    (tmp_path / "asked.json").write_text('{"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest"}')

    def token() -> str:
        path = "/api/v1/namespaces/inside/serviceaccounts/muster/token"
        answer = cluster.kubectl("create", "--raw", path, "--filename", str(tmp_path / "asked.json"))
        return json.loads(answer)["status"]["token"]

    config = yaml.safe_load(cluster.kubeconfig.read_text())["clusters"][0]["cluster"]
    where = urlsplit(config["server"])
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", where.hostname)
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", str(where.port))
    monkeypatch.setattr(incluster_config, "SERVICE_TOKEN_FILENAME", str(tmp_path / "token"))
    monkeypatch.setattr(incluster_config, "SERVICE_CERT_FILENAME", str(tmp_path / "ca.crt"))
    monkeypatch.setattr(kubernetes, "NAMESPACE_FILE", tmp_path / "namespace")
    monkeypatch.setattr(kubernetes, "_clients", {})
    (tmp_path / "token").write_text(token())
    (tmp_path / "ca.crt").write_bytes(base64.b64decode(config["certificate-authority-data"]))
    (tmp_path / "namespace").write_text("inside")
    inside = KubernetesRuntime("inside", {"in_cluster": True}, {})
    inside.apply(plan(image="a:1", probe=None, memory=2**40))
    wait_until(lambda: any(each.message for each in inside.observe(REF).services[0].replicas), limit=60)
    assert "depl-web" in cluster.kubectl("--namespace", "inside", "get", "deployments", "-o", "name")

    def renew(text: str) -> None:
        """Kubernetes replaces the file in time; the client reads it again after a minute."""
        (tmp_path / "token").write_text(text)
        hook = inside._client().configuration.refresh_api_key_hook
        hook.__closure__[0].cell_contents.token_expires_at = datetime.min

    renew("not a token any more")
    with pytest.raises(RuntimeFault, match="credentials of this runtime are not valid"):
        inside.observe(REF)
    renew(token())
    inside.remove(REF)
    wait_until(lambda: not inside.observe(REF).services, limit=60)
    with pytest.raises(RuntimeFault, match=r"forbidden: .*serviceaccount:inside:muster") as refused:
        KubernetesRuntime("outside", {"in_cluster": True, "namespace": "default"}, {}).observe(REF)
    assert refused.value.permanent
