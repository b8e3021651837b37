"""What a real kubelet (1.20.2, containerd 1.6) and a real API server said, and what we make of it.

`kubelet.json` holds the statuses of pods as they were recorded, each with kubectl's STATUS column of the
same moment.
"""

from __future__ import annotations

import io
import json
import threading
from pathlib import Path
from typing import Any

import pytest
import urllib3

from tests.workflows.hosted import plan
from workflows_app.drivers.kubernetes import KubernetesRuntime
from workflows_app.drivers.kubernetes_objects import deployment as made_for
from workflows_app.drivers.kubernetes_objects import digest_of, nodes_sleep, pod_status, service_states

RECORDED = json.loads((Path(__file__).parent / "kubelet.json").read_text())


def pod(status: dict[str, Any], service: str = "web") -> dict[str, Any]:
    labels = {"muster.local/service": service}
    metadata = {"name": "p", "uid": "u", "creationTimestamp": "2026-11-22T17:04:29Z", "labels": labels}
    return {"metadata": metadata, "spec": {}, "status": status}


def deployment(service: str = "web", *, port: int | None = None, **status: Any) -> dict[str, Any]:
    container = {"ports": [{"containerPort": port}]} if port else {}
    return {
        "metadata": {
            "generation": 2,
            "labels": {"muster.local/service": service},
            "annotations": {"muster.local/plan": "abc"},
        },
        "spec": {"replicas": 2, "template": {"spec": {"containers": [container]}}},
        "status": status,
    }


@pytest.mark.parametrize("seen", RECORDED, ids=lambda seen: seen["what"])
def test_a_pod_is_shown_as_kubectl_shows_it_with_the_kubelets_words(seen):
    state, message = pod_status(pod(seen["status"]))
    assert state == seen["column"]
    assert seen["words"] in message
    assert bool(seen["words"]) == bool(message)


def test_of_a_node_that_is_gone_the_event_tells_and_nothing_is_sent_there():
    lost = pod(RECORDED[-1]["status"])
    (state,) = service_states([deployment()], [], [lost], "pod", {"u": "Node is not ready"})
    (replica,) = state.replicas
    assert (replica.state, replica.message, replica.ready) == ("Running", "Node is not ready", False)
    assert replica.address == ""


def test_counts_of_an_earlier_specification_are_no_progress():
    counts = {"updatedReplicas": 2, "replicas": 2, "availableReplicas": 2}
    (stale,) = service_states([deployment(observedGeneration=1, **counts)], [], [])
    (fresh,) = service_states([deployment(observedGeneration=2, **counts)], [], [])
    assert (stale.updated, stale.actual, fresh.updated) == (0, 2, 2)


def test_what_was_deleted_behind_us_is_noticed_while_its_pods_still_end():
    network = [{"metadata": {"name": "web"}}]
    web, words = deployment(port=80), deployment("words")
    assert digest_of([web, words], network, [pod({}), pod({}, "words")]) == "abc"
    assert digest_of([words], network, [pod({}), pod({}, "words")]) == ""
    assert digest_of([web, words], [], []) == ""


@pytest.mark.parametrize(
    ("major", "minor", "expected"),
    [
        ("", "", "exec"),  # not told
        ("1", "20", "exec"),
        ("1", "32+", "exec"),
        ("1", "33", "sleep"),
        ("1", "34+", "sleep"),
        ("2", "0", "sleep"),
    ],
)
def test_pods_are_told_to_end_after_a_pause_by_the_node_where_every_node_can(major, minor, expected):
    wanted = plan(image="a:1", drain_seconds=3)
    able = nodes_sleep({"major": major, "minor": minor} if major else {})
    made = made_for(wanted, wanted.services[0], nodes_sleep=able)
    (container,) = made["spec"]["template"]["spec"]["containers"]
    ways = {"exec": {"exec": {"command": ["sleep", "3"]}}, "sleep": {"sleep": {"seconds": 3}}}
    assert container["lifecycle"] == {"preStop": ways[expected]}


def test_a_watch_whose_place_the_server_has_forgotten_begins_anew():
    """Recorded after etcd was compacted: the answer is 200, and the refusal an event in it."""
    forgotten = (
        b'{"type":"ERROR","object":{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure",'
        b'"message":"too old resource version: 300 (4483)","reason":"Expired","code":410}}\n'
    )

    def watch(*_: Any, **options: Any) -> urllib3.HTTPResponse:
        assert options["resource_version"] == "300"
        return urllib3.HTTPResponse(io.BytesIO(forgotten), preload_content=False)

    driver = KubernetesRuntime("k", {"namespace": "default"}, {})
    assert driver._follow(watch, "300", threading.Event(), set()) == ""
