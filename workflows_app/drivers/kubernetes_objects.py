"""From a plan to Kubernetes objects, and from what the API server says to the states of services. Pure.

Works on plain JSON: the client's models refuse answers of servers that are not quite of their version.
Sources of each field: contracts, workflows 12.5 and RUNTIMES 4.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from workflows_app.drivers.base import Plan, Probe, Reason, ReplicaState, Rollout, ServicePlan, ServiceState

REF, SERVICE = "muster.local/ref", "muster.local/service"
PLAN, RESTARTS = "muster.local/plan", "muster.local/restarts"
APPLIED = "muster.local/applied"
MANAGED_BY = {"app.kubernetes.io/managed-by": "muster"}
REVISION = "deployment.kubernetes.io/revision"
TEMPLATE_HASH = "pod-template-hash"
FINISHED_SHOWN = 3
ROLLING = frozenset({"NewReplicaSetCreated", "FoundNewReplicaSet", "ReplicaSetUpdated"})

Json = Mapping[str, Any]


# -- what shall run -----------------------------------------------------------------------------------


def deployment_name(ref: str, service: str) -> str:
    """The Deployment of a service."""
    return f"depl-{service}-{ref}"


def deployment(plan: Plan, service: ServicePlan, *, nodes_sleep: bool = False) -> dict[str, Any]:
    """The Deployment as server-side apply takes it: the fields that are ours, and no others.

    `nodes_sleep`: kubelets can wait before they ask a pod to end, without a program of its image.
    """
    selector = {REF: plan.ref, SERVICE: service.id}
    labels = {**MANAGED_BY, "app.kubernetes.io/name": service.name, **selector}
    annotations = dict(service.annotations)
    if service.restarts:
        annotations[RESTARTS] = str(service.restarts)
    strategy: dict[str, Any] = {"type": "Recreate"}
    if service.strategy.kind == "rolling":
        rolling = {"maxSurge": service.strategy.max_surge, "maxUnavailable": service.strategy.max_unavailable}
        if all(str(value).strip("%") == "0" for value in rolling.values()):
            rolling["maxUnavailable"] = 1  # both 0 would never move; the API server refuses it
        strategy = {"type": "RollingUpdate", "rollingUpdate": rolling}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {
            "name": deployment_name(plan.ref, service.id),
            "labels": labels,
            "annotations": {PLAN: plan.digest()},
        },
        "spec": {
            "replicas": service.replicas,
            "selector": {"matchLabels": selector},
            "strategy": strategy,
            "minReadySeconds": round(service.min_ready_seconds),
            "progressDeadlineSeconds": round(service.progress_deadline_seconds),
            "revisionHistoryLimit": 2,
            "template": {
                "metadata": {"labels": labels, "annotations": annotations},
                "spec": _pod_spec(plan, service, nodes_sleep),
            },
        },
    }


def _pod_spec(plan: Plan, service: ServicePlan, nodes_sleep: bool) -> dict[str, Any]:
    drains = service.port is not None and service.drain_seconds > 0
    container: dict[str, Any] = {
        "name": service.name,
        "image": service.image,
        "env": [{"name": name, "value": value} for name, value in _environment(plan, service).items()],
    }
    if service.command:
        container["command"] = list(service.command)
    if service.args:
        container["args"] = list(service.args)
    if service.port is not None:
        container["ports"] = [{"containerPort": service.port, "protocol": "TCP"}]
    limits = {}
    if service.cpu is not None:
        limits["cpu"] = f"{round(service.cpu * 1000)}m"
    if service.memory is not None:
        limits["memory"] = str(service.memory)
    if limits:
        container["resources"] = {"limits": limits, "requests": limits}
    if service.probe is not None:
        container["readinessProbe"] = _probe(service.probe, service.port)
    if drains:
        # The pod leaves the routes when it is to end; requests under way get this long before it is told.
        # Where that needs the image's `sleep` and there is none, it only leaves an event.
        seconds = max(1, round(service.drain_seconds))
        wait = (
            {"sleep": {"seconds": seconds}} if nodes_sleep else {"exec": {"command": ["sleep", str(seconds)]}}
        )
        container["lifecycle"] = {"preStop": wait}
    return {
        "containers": [container],
        "terminationGracePeriodSeconds": round(
            service.stop_seconds + (service.drain_seconds if drains else 0)
        ),
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
    }


def _environment(plan: Plan, service: ServicePlan) -> dict[str, str]:
    """The service's own, where it listens, and its peers under their names in the cluster."""
    values = {"HOST": "0.0.0.0", "PORT": str(service.port)} if service.port is not None else {}  # noqa: S104
    peers = {
        f"MUSTER_SERVICE_{peer.name.upper().replace('-', '_')}": f"http://{peer.id}:{peer.port}"
        for peer in plan.services
        if peer.port is not None
    }
    return {**values, **service.environment, **peers}


def _probe(probe: Probe, port: int | None) -> dict[str, Any]:
    """Kubernetes counts in whole seconds, from 1."""
    where = probe.port or port
    action = (
        {"httpGet": {"path": probe.path, "port": where, "scheme": "HTTP"}}
        if probe.kind == "http"
        else {"tcpSocket": {"port": where}}
    )
    return {
        **action,
        "initialDelaySeconds": round(probe.initial_delay_seconds),
        "periodSeconds": max(1, round(probe.period_seconds)),
        "timeoutSeconds": max(1, round(probe.timeout_seconds)),
        "successThreshold": probe.success_threshold,
        "failureThreshold": probe.failure_threshold,
    }


def network_service(plan: Plan, service: ServicePlan) -> dict[str, Any]:
    """The Service by which others in the cluster reach it."""
    selector = {REF: plan.ref, SERVICE: service.id}
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": service.id, "labels": {**MANAGED_BY, **selector}},
        "spec": {
            "selector": selector,
            "ports": [{"port": service.port, "targetPort": service.port, "protocol": "TCP"}],
        },
    }


def nodes_sleep(version: Json) -> bool:
    """Whether every kubelet that this API server may have has the sleep action: since 1.30 (KEP-3960),
    and kubelets may be three minor versions older than it."""
    numbers = re.match(r"(\d+)\.(\d+)", f"{version.get('major')}.{version.get('minor')}")
    return numbers is not None and (int(numbers[1]), int(numbers[2])) >= (1, 33)


# -- what does run ------------------------------------------------------------------------------------


def applied_note(taken: Json) -> Json | None:
    """What notes on a Deployment that its specification as it is now is ours, as a merge patch; None where
    that is noted already. With all that the server has added, so nothing of it need be understood. (Its
    generation would not do: that grows with each annotation, too. A label leaves it alone.)"""
    spec = hashlib.sha256(json.dumps(taken["spec"], sort_keys=True).encode()).hexdigest()[:32]
    if taken["metadata"].get("labels", {}).get(APPLIED) == spec:
        return None
    return {"metadata": {"labels": {APPLIED: spec}}}


def is_drifted(each: Json) -> bool:
    """Whether somebody else has changed the Deployment since it was applied."""
    return applied_note(each) is not None


def digest_of(deployments: Sequence[Json], network: Iterable[Json], pods: Iterable[Json]) -> str:
    """Of the plan that all of them were made from; "" where they disagree, or something of it was deleted:
    a Deployment whose pods are still ending, the Service of one that takes requests."""
    plans = {each["metadata"].get("annotations", {}).get(PLAN, "") for each in deployments}
    present = {each["metadata"]["labels"][SERVICE] for each in deployments}
    orphaned = any(pod["metadata"].get("labels", {}).get(SERVICE) not in present for pod in pods)
    named = {each["metadata"]["name"] for each in network}
    cut_off = any(_ports(each) and each["metadata"]["labels"][SERVICE] not in named for each in deployments)
    return plans.pop() if len(plans) == 1 and not orphaned and not cut_off else ""


def service_states(
    deployments: Iterable[Json],
    replica_sets: Sequence[Json],
    pods: Sequence[Json],
    route: str = "pod",
    warnings: Mapping[str, str] | None = None,
) -> tuple[ServiceState, ...]:
    """Every Deployment with its pods; pods whose Deployment is gone already, as services of which none is
    asked for. `route`: "pod" sends requests to the pods' own addresses, "service" to the Service's.
    `warnings`: by a pod's UID, for pods that are not ready and say nothing about it themselves."""
    now = datetime.now(UTC)
    left: dict[str, list[Json]] = {}
    for pod in pods:
        left.setdefault(pod["metadata"].get("labels", {}).get(SERVICE, ""), []).append(pod)
    states = []
    for each in deployments:
        key = each["metadata"]["labels"][SERVICE]
        states.append(_service_state(each, replica_sets, left.pop(key, []), route, now))
    if warnings:
        by_name = {pod["metadata"]["name"]: warnings.get(pod["metadata"].get("uid", ""), "") for pod in pods}
        states = [_with_warnings(state, by_name) for state in states]
    for key, orphans in left.items():
        replicas = tuple(replica_state(pod, "", 0, "", now) for pod in orphans)
        states.append(ServiceState(key, 0, 0, Rollout.IN_PROGRESS, Reason.ROLLING_OUT, replicas=replicas))
    return tuple(states)


def _with_warnings(state: ServiceState, by_name: Mapping[str, str]) -> ServiceState:
    replicas = tuple(
        replace(replica, message=by_name[replica.name]) if says_nothing(replica) else replica
        for replica in state.replicas
    )
    return replace(state, replicas=replicas)


def says_nothing(replica: ReplicaState) -> bool:
    """Whether it is not ready, and its own status has no word about that."""
    return not (replica.ready or replica.message or replica.state == "Terminating")


def warnings_by_pod(events: Iterable[Json]) -> dict[str, str]:
    """The newest warning about each pod, by its UID. What the scheduler says stands in the pod itself, and
    only as long as it holds."""
    newest: dict[str, tuple[str, str]] = {}
    for event in events:
        uid = event.get("involvedObject", {}).get("uid", "")
        times = [event.get(name) for name in ("lastTimestamp", "eventTime", "firstTimestamp")]
        at = (event.get("series") or {}).get("lastObservedTime") or next(filter(None, times), "")
        if event.get("type") == "Warning" and event.get("reason") != "FailedScheduling":
            newest[uid] = max(newest.get(uid, ("", "")), (at, event.get("message") or ""))
    return {uid: message for uid, (_, message) in newest.items()}


def _service_state(
    each: Json, replica_sets: Sequence[Json], pods: Sequence[Json], route: str, now: datetime
) -> ServiceState:
    spec, status = each["spec"], each.get("status", {})
    rollout, reason, message = rollout_of(each)
    least = spec.get("minReadySeconds", 0)
    newest = newest_hash(each, replica_sets)
    address = _service_address(each) if route == "service" else ""
    ordered = sorted(pods, key=lambda pod: (pod["metadata"]["creationTimestamp"], pod["metadata"]["name"]))
    # Kubernetes keeps pods that were evicted, and others that are over, for long: the newest tell enough.
    over = [pod for pod in ordered if pod.get("status", {}).get("phase") in {"Failed", "Succeeded"}]
    ordered = [pod for pod in ordered if pod not in over[:-FINISHED_SHOWN]]
    return ServiceState(
        id=each["metadata"]["labels"][SERVICE],
        desired=spec.get("replicas", 1),
        actual=status.get("availableReplicas", 0),
        rollout=rollout,
        reason=reason,
        message=message,
        # What the controller has not yet looked at it has not updated: its count is of what was before.
        updated=0 if not_observed(each) else status.get("updatedReplicas", 0),
        total=status.get("replicas", 0),
        replicas=tuple(replica_state(pod, newest, least, address, now) for pod in ordered),
    )


def rollout_of(each: Json) -> tuple[Rollout, Reason, str]:
    """rolloutStatus, rolloutStatusReason and Kubernetes' message (contracts, workflows 12.5).

    Generations first: right after a change the conditions still speak of what was before.
    """
    status = each.get("status", {})
    if not_observed(each):
        return Rollout.IN_PROGRESS, Reason.ROLLING_OUT, ""
    conditions = {condition["type"]: condition for condition in status.get("conditions", [])}
    progressing = conditions.get("Progressing", {})
    failure = conditions.get("ReplicaFailure", {})
    words = progressing.get("message", "")
    word = progressing.get("reason", "")
    if word == "NewReplicaSetAvailable":
        # Scaling alone is not judged again: what hinders it is told all the same.
        return Rollout.COMPLETE, Reason.NONE, _failure_words(failure)
    if failure.get("status") == "True" and (word == "ProgressDeadlineExceeded" or not status.get("replicas")):
        return Rollout.FAILED, Reason.REPLICA_FAILURE, failure.get("message", "")
    if word in {"ProgressDeadlineExceeded", "ReplicaSetCreateError"}:
        return (
            Rollout.FAILED,
            Reason.DEADLINE if word != "ReplicaSetCreateError" else Reason.REPLICA_FAILURE,
            words,
        )
    if word == "DeploymentPaused":
        return Rollout.IN_PROGRESS, Reason.PAUSED, words
    if not progressing and _all_there(each):
        return Rollout.COMPLETE, Reason.NONE, ""
    return Rollout.IN_PROGRESS, Reason.ROLLING_OUT, _failure_words(failure)


def not_observed(each: Json) -> bool:
    """Whether its status still speaks of an earlier specification."""
    return each["metadata"].get("generation", 0) > each.get("status", {}).get("observedGeneration", 0)


def _failure_words(failure: Json) -> str:
    return failure.get("message", "") if failure.get("status") == "True" else ""


def _all_there(each: Json) -> bool:
    """The controller's own completion, for Deployments without a deadline and so without Progressing."""
    status, want = each.get("status", {}), each["spec"].get("replicas", 1)
    counts = {status.get(name, 0) for name in ("updatedReplicas", "replicas", "availableReplicas")}
    return counts == {want}


def newest_hash(each: Json, replica_sets: Sequence[Json]) -> str:
    """Hash of the Deployment's newest ReplicaSet; "" while there is none of its present template."""
    metadata = each["metadata"]
    if not_observed(each):
        return ""
    revision = metadata.get("annotations", {}).get(REVISION)
    for replica_set in replica_sets:
        owners = {owner.get("uid") for owner in replica_set["metadata"].get("ownerReferences", [])}
        same = replica_set["metadata"].get("annotations", {}).get(REVISION) == revision
        if metadata.get("uid") in owners and same:
            return replica_set["metadata"].get("labels", {}).get(TEMPLATE_HASH, "")
    return ""


def replica_state(pod: Json, newest: str, least: float, address: str, now: datetime) -> ReplicaState:
    """One pod. `least`: minReadySeconds; `address`: where requests go instead of to the pod itself."""
    metadata, status = pod["metadata"], pod.get("status", {})
    state, message = pod_status(pod)
    ready_condition = _condition(pod, "Ready")
    terminating = bool(metadata.get("deletionTimestamp"))
    ready = ready_condition.get("status") == "True" and not terminating
    since = _time(ready_condition.get("lastTransitionTime"))
    available = ready and (least <= 0 or (since is not None and now - since >= timedelta(seconds=least)))
    return ReplicaState(
        name=metadata["name"],
        state=state,
        message=message,
        ready=ready,
        available=available,
        at_latest=bool(newest) and metadata.get("labels", {}).get(TEMPLATE_HASH) == newest,
        created_at=_time(metadata["creationTimestamp"]) or now,
        started_at=_time(status.get("startTime")),
        address=(address or _pod_address(pod)) if ready else "",
        restarts=sum(each.get("restartCount", 0) for each in status.get("containerStatuses", [])),
    )


def pod_status(pod: Json) -> tuple[str, str]:
    """Kubectl's STATUS column, and beside it Unschedulable, with the message of the same source."""
    status = pod.get("status", {})
    if pod["metadata"].get("deletionTimestamp"):
        return ("Unknown" if status.get("reason") == "NodeLost" else "Terminating"), ""
    if status.get("reason"):
        return status["reason"], status.get("message", "")
    scheduled = _condition(pod, "PodScheduled")
    if scheduled.get("status") == "False":
        return scheduled.get("reason") or "Pending", scheduled.get("message", "")
    return _init_status(pod) or _container_status(pod) or (status.get("phase", "Pending"), "")


def _init_status(pod: Json) -> tuple[str, str] | None:
    """While an init container is not done."""
    statuses = pod.get("status", {}).get("initContainerStatuses", [])
    for place, each in enumerate(statuses):
        state = each.get("state", {})
        ended, waiting = state.get("terminated"), state.get("waiting")
        if ended is not None:
            if ended.get("exitCode") == 0:
                continue
            return f"Init:{_ending(ended)}", _ended_words(ended)
        if waiting is not None and waiting.get("reason") not in (None, "", "PodInitializing"):
            return f"Init:{waiting['reason']}", _waiting_words(each)
        return f"Init:{place}/{len(statuses)}", ""
    return None


def _container_status(pod: Json) -> tuple[str, str] | None:
    """The first container that waits or has ended decides; one that runs on makes Completed less final."""
    found, running = None, False
    for each in reversed(pod.get("status", {}).get("containerStatuses", [])):
        state = each.get("state", {})
        waiting, ended = state.get("waiting"), state.get("terminated")
        if waiting and waiting.get("reason"):
            found = waiting["reason"], _waiting_words(each)
        elif ended is not None:
            found = _ending(ended), _ended_words(ended)
        elif each.get("ready") and state.get("running") is not None:
            running = True
    if found and found[0] == "Completed" and running:
        ready = _condition(pod, "Ready").get("status") == "True"
        return ("Running" if ready else "NotReady"), ""
    return found


def _ending(ended: Json) -> str:
    if ended.get("reason"):
        return str(ended["reason"])
    return f"Signal:{ended['signal']}" if ended.get("signal") else f"ExitCode:{ended.get('exitCode', 0)}"


def _ended_words(ended: Json) -> str:
    """What it left as its last message, else its exit code where that tells something."""
    code = ended.get("exitCode", 0)
    return ended.get("message", "").strip() or (f"exit code {code}" if code and ended.get("reason") else "")


def _waiting_words(container: Json) -> str:
    """The message of a container that waits; in a crash loop also how it ended the last time, which its
    status shows only for the moment of the end."""
    waiting = container["state"]["waiting"]
    words: str = waiting.get("message", "")
    ended = container.get("lastState", {}).get("terminated")
    if waiting["reason"] != "CrashLoopBackOff" or not ended:
        return words
    last = ", ".join(filter(None, [str(ended.get("reason") or ""), f"exit code {ended.get('exitCode', 0)}"]))
    said = ended.get("message", "").strip()
    return f"{words}; ended before: {last}{f' ({said})' if said else ''}".removeprefix("; ")


def _condition(pod: Json, kind: str) -> Json:
    conditions = pod.get("status", {}).get("conditions", [])
    return next((condition for condition in conditions if condition["type"] == kind), {})


def _pod_address(pod: Json) -> str:
    address = pod.get("status", {}).get("podIP", "")
    ports = [
        port["containerPort"]
        for container in pod["spec"].get("containers", [])
        for port in container.get("ports", [])
    ]
    if not address or not ports:
        return ""
    return f"http://[{address}]:{ports[0]}" if ":" in address else f"http://{address}:{ports[0]}"


def _ports(each: Json) -> list[int]:
    containers = each["spec"]["template"]["spec"].get("containers", [])
    return [port["containerPort"] for container in containers for port in container.get("ports", [])]


def _service_address(each: Json) -> str:
    ports = _ports(each)
    metadata = each["metadata"]
    return f"http://{metadata['labels'][SERVICE]}.{metadata['namespace']}:{ports[0]}" if ports else ""


def _time(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text.replace("Z", "+00:00")) if text else None
