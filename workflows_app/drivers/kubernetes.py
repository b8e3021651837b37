"""Runs services as Deployments of a Kubernetes cluster, with the official client."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar

import urllib3
import yaml
from kubernetes import client, config
from kubernetes.client.exceptions import ApiException
from kubernetes.config import ConfigException
from kubernetes.watch.watch import iter_resp_lines

from workflows_app.drivers.base import Observation, Plan, RuntimeDriver, RuntimeFault, Setting
from workflows_app.drivers.kubernetes_objects import (
    MANAGED_BY,
    REF,
    SERVICE,
    applied_note,
    deployment,
    deployment_name,
    digest_of,
    is_drifted,
    network_service,
    nodes_sleep,
    says_nothing,
    service_states,
    warnings_by_pod,
)

log = logging.getLogger(__name__)

TIMEOUT = (3.0, 10.0)  # seconds to connect, to answer
WATCH_SECONDS = 240  # the server ends a watch then; it is resumed where it was
SHORT_WATCH = 1.0  # a watch that the server ends so soon is not begun again at once
MOST_EVENTS = 500
FLUSH_SECONDS = 0.3  # changes of so long are told together
MANAGER = "muster"
APPLY = "application/apply-patch+yaml"  # JSON is YAML
MERGE = "application/merge-patch+json"
UNAUTHORIZED, ABSENT, GONE = 401, 404, 410
# What repeating doesn't help: refused credentials, no such namespace, an object that is not valid.
PERMANENT = frozenset({400, 401, 403, 404, 405, 422})

# What is wrong with credentials: when they are loaded; when a token's file is read again, in any call.
UNUSABLE = (ConfigException, yaml.YAMLError, TypeError, OSError, KeyError, ValueError)
NOT_RENEWED = (ConfigException, OSError)
NAMESPACE_FILE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")

_clients: dict[str, tuple[client.ApiClient, str]] = {}
_clients_lock = threading.Lock()


class Absent(RuntimeFault):
    """There is no such object."""


class KubernetesRuntime(RuntimeDriver):
    """One namespace of one cluster."""

    kind = "kubernetes"
    label = "Kubernetes"
    watches = True
    settings: ClassVar[tuple[Setting, ...]] = (
        Setting("namespace", "Namespace",
                help="By default that of the pod that Muster runs in, or of the context, else default."),
        Setting("kubeconfig", "Kubeconfig", secret=True, help="The file's content."),
        Setting("kubeconfig_path", "Path of a kubeconfig", help="On every machine that runs a worker."),
        Setting("context", "Context", help="Of the kubeconfig; by default its current one."),
        Setting("in_cluster", "In the cluster itself", kind=bool, default=False,
                help="Use the service account of the pod that Muster runs in."),
        Setting("route", "Where requests go", default="pod", choices=("pod", "service"),
                help="To the pods' addresses, or to the Service's name (from inside the cluster)."),
    )  # fmt: skip

    def check(self, plan: Plan) -> list[str]:
        return [
            f"Service {service.name} has no image, which is what Kubernetes runs."
            for service in plan.services
            if not service.image
        ]

    def apply(self, plan: Plan) -> None:
        namespace = self._namespace()
        apps, core = client.AppsV1Api(self._client()), client.CoreV1Api(self._client())
        options: dict[str, Any] = {"field_manager": MANAGER, "force": True, "_content_type": APPLY}
        sleeps = nodes_sleep(self._version())
        for service in plan.services:
            if service.port is not None:
                body = network_service(plan, service)
                self._call(core.patch_namespaced_service, service.id, namespace, body, **options)
            body = deployment(plan, service, nodes_sleep=sleeps)
            name = body["metadata"]["name"]
            taken = self._call(apps.patch_namespaced_deployment, name, namespace, body, **options)
            note = applied_note(taken)
            if note is not None:
                self._call(apps.patch_namespaced_deployment, name, namespace, note, _content_type=MERGE)
        self._delete_others(
            plan.ref,
            {deployment_name(plan.ref, service.id) for service in plan.services},
            {service.id for service in plan.services if service.port is not None},
        )

    def _version(self) -> dict[str, str]:
        """The API server's; nothing where it won't tell, which hinders no publication."""
        try:
            told: dict[str, str] = self._call(client.VersionApi(self._client()).get_code)
        except RuntimeFault as fault:
            if not fault.permanent:
                raise
            return {}
        return told

    def remove(self, ref: str) -> None:
        self._delete_others(ref, set(), set())

    def _delete_others(self, ref: str, deployments: set[str], services: set[str]) -> None:
        namespace = self._namespace()
        apps, core = client.AppsV1Api(self._client()), client.CoreV1Api(self._client())
        for name in self._names(core.list_namespaced_service, ref) - services:
            self._delete(core.delete_namespaced_service, name, namespace)
        for name in self._names(apps.list_namespaced_deployment, ref) - deployments:
            # Foreground: it stays to be seen until its pods have gone.
            self._delete(apps.delete_namespaced_deployment, name, namespace, propagation_policy="Foreground")

    def _names(self, list_: Callable[..., Any], ref: str) -> set[str]:
        return {each["metadata"]["name"] for each in self._list(list_, ref)}

    def _delete(self, delete: Callable[..., Any], name: str, namespace: str, **options: Any) -> None:
        try:
            self._raw(delete, name, namespace, **options)
        except Absent:
            return

    def observe(self, ref: str) -> Observation:
        apps, core = client.AppsV1Api(self._client()), client.CoreV1Api(self._client())
        # From what is made last to what is made first: who owns a pod that was seen is seen as well.
        pods = self._list(core.list_namespaced_pod, ref)
        replica_sets = self._list(apps.list_namespaced_replica_set, ref) if pods else []
        deployments = self._list(apps.list_namespaced_deployment, ref)
        network = self._list(core.list_namespaced_service, ref)
        digest = digest_of(deployments, network, pods)
        drifted = [each for each in deployments if is_drifted(each)]
        if digest and drifted and not {each["metadata"]["name"] for each in drifted} <= self._autoscaled():
            digest = ""
        states = service_states(deployments, replica_sets, pods, self._settings["route"])
        if any(says_nothing(replica) for state in states for replica in state.replicas):
            warnings = self._warnings(core)
            states = service_states(deployments, replica_sets, pods, self._settings["route"], warnings)
        return Observation(digest, states, leftovers=bool(network) and not deployments)

    def _autoscaled(self) -> set[str]:
        """Deployments that an autoscaler changes, which is not undone; none where the right to look is
        missing."""
        scaling = client.AutoscalingV1Api(self._client())
        try:
            found = self._call(scaling.list_namespaced_horizontal_pod_autoscaler, self._namespace())
        except RuntimeFault as fault:
            log.debug("No autoscalers of %s: %s", self.name, fault)
            return set()
        targets = [each["spec"]["scaleTargetRef"] for each in found["items"]]
        return {target["name"] for target in targets if target["kind"] == "Deployment"}

    def _warnings(self, core: client.CoreV1Api) -> dict[str, str]:
        """What Kubernetes says of pods in events alone: a volume that can't be mounted, a probe that fails.
        Nothing where the right to read events is missing: the status goes without them."""
        try:
            found = self._call(
                core.list_namespaced_event,
                self._namespace(),
                field_selector="involvedObject.kind=Pod,type=Warning",
                limit=MOST_EVENTS,
            )
        except RuntimeFault as fault:
            log.debug("No events of %s: %s", self.name, fault)
            return {}
        return warnings_by_pod(found["items"])

    def logs(self, ref: str, service: str, replica: str, lines: int) -> str:
        core = client.CoreV1Api(self._client())
        known = {
            pod["metadata"]["name"]
            for pod in self._list(core.list_namespaced_pod, ref)
            if pod["metadata"]["labels"].get(SERVICE) == service
        }
        if replica not in known:
            raise RuntimeFault(f"There is no pod {replica[:100]!r} of this service.", permanent=True)
        namespace = self._namespace()
        answer = self._raw(core.read_namespaced_pod_log, replica, namespace, tail_lines=lines)
        return answer.decode("utf-8", "replace")

    # -- watching -------------------------------------------------------------------------------------

    def watch(self, stop: threading.Event, changed: Callable[[Sequence[str]], None]) -> None:
        """Two watches, resumed from where they were; a listing only at first and when the server has
        forgotten that place."""
        api = self._client()
        found: set[str] = set()
        faults: list[RuntimeFault] = []
        lists = (
            client.AppsV1Api(api).list_namespaced_deployment,
            client.CoreV1Api(api).list_namespaced_pod,
        )
        threads = [
            threading.Thread(target=self._watch, args=(list_, stop, found, faults), daemon=True)
            for list_ in lists
        ]
        for thread in threads:
            thread.start()
        while not stop.wait(FLUSH_SECONDS) and not faults:
            if found:
                refs = [found.pop() for _ in range(len(found))]
                changed(refs)
        if faults:
            raise faults[0]

    def _watch(
        self, list_: Callable[..., Any], stop: threading.Event, found: set[str], faults: list[RuntimeFault]
    ) -> None:
        version = ""
        try:
            while not stop.is_set() and not faults:
                if not version:
                    version = self._list_all(list_, found)
                began = time.monotonic()
                version = self._follow(list_, version, stop, found)
                if time.monotonic() - began < SHORT_WATCH:
                    stop.wait(SHORT_WATCH)
        except RuntimeFault as fault:
            faults.append(fault)
        except Exception as error:
            log.exception("A watch of %s failed.", self.name)
            faults.append(RuntimeFault(f"The watch failed: {type(error).__name__}."))

    def _list_all(self, list_: Callable[..., Any], found: set[str]) -> str:
        """Everything of ours counts as changed; return from where to watch."""
        selector = ",".join(f"{name}={value}" for name, value in MANAGED_BY.items())
        answer = json.loads(self._raw(list_, self._namespace(), label_selector=selector))
        found.update(_ref(each) for each in answer["items"])
        return answer["metadata"]["resourceVersion"]

    def _follow(self, list_: Callable[..., Any], version: str, stop: threading.Event, found: set[str]) -> str:
        """One watch to its end; return from where to go on, "" where the server has forgotten that."""
        selector = ",".join(f"{name}={value}" for name, value in MANAGED_BY.items())
        try:
            response = list_(
                self._namespace(),
                label_selector=selector,
                watch=True,
                allow_watch_bookmarks=True,
                resource_version=version,
                timeout_seconds=WATCH_SECONDS,
                _preload_content=False,
                _request_timeout=(TIMEOUT[0], WATCH_SECONDS + 30.0),
            )
        except ApiException as error:
            if error.status == GONE:
                return ""
            raise _fault(error) from None
        except urllib3.exceptions.HTTPError as error:
            raise _unreachable(error) from None
        except NOT_RENEWED as error:
            raise _unusable(error) from None
        try:
            for line in iter_resp_lines(response):
                if stop.is_set():
                    break
                event = json.loads(line) if line.strip() else None
                if event is None:
                    continue
                if event["type"] == "ERROR":
                    if event["object"].get("code") == GONE:
                        return ""
                    raise RuntimeFault(event["object"].get("message", "The watch ended."))
                version = event["object"]["metadata"]["resourceVersion"]
                if event["type"] != "BOOKMARK":
                    found.add(_ref(event["object"]))
        except (urllib3.exceptions.HTTPError, OSError) as error:
            # Cut in the middle: what was seen is not seen again.
            log.debug("A watch of %s broke: %s", self.name, error)
        finally:
            response.release_conn()
        return version

    # -- calls ----------------------------------------------------------------------------------------

    def _list(self, list_: Callable[..., Any], ref: str) -> list[dict[str, Any]]:
        answer = self._call(list_, self._namespace(), label_selector=f"{REF}={ref}")
        items: list[dict[str, Any]] = answer["items"]
        return items

    def _call(self, function: Callable[..., Any], *args: Any, **options: Any) -> Any:
        return json.loads(self._raw(function, *args, **options))

    def _raw(self, function: Callable[..., Any], *args: Any, **options: Any) -> bytes:
        """The answer's bytes. Raises RuntimeFault with Kubernetes' own words."""
        try:
            response = function(*args, _preload_content=False, _request_timeout=TIMEOUT, **options)
            data: bytes = response.data
        except ApiException as error:
            raise _fault(error) from None
        except urllib3.exceptions.HTTPError as error:
            raise _unreachable(error) from None
        except NOT_RENEWED as error:
            raise _unusable(error) from None
        return data

    def _client(self) -> client.ApiClient:
        """A client for these credentials. Raises RuntimeFault."""
        return self._connection()[0]

    def _namespace(self) -> str:
        """The namespace that is set, else that of the credentials. Raises RuntimeFault."""
        return self._settings["namespace"] or self._connection()[1]

    def _connection(self) -> tuple[client.ApiClient, str]:
        """Client and namespace of these credentials, made once in this process."""
        path = self._settings["kubeconfig_path"]
        stamp = os.stat(path).st_mtime_ns if path and os.path.exists(path) else 0
        values = json.dumps([self._settings, self._secrets, stamp], sort_keys=True)
        key = hashlib.sha256(values.encode()).hexdigest()
        with _clients_lock:
            if key not in _clients:
                _clients[key] = self._connect()
            return _clients[key]

    def _connect(self) -> tuple[client.ApiClient, str]:
        settings = client.Configuration()
        try:
            namespace = self._load(settings)
        except UNUSABLE as error:
            raise _unusable(error) from None
        settings.retries = False
        return client.ApiClient(settings), namespace or "default"

    def _load(self, settings: client.Configuration) -> str:
        """Fill in the credentials; answer their namespace, "" where they name none."""
        name = self._settings["context"] or None
        if self._settings["in_cluster"]:
            config.load_incluster_config(client_configuration=settings)
            return NAMESPACE_FILE.read_text().strip() if NAMESPACE_FILE.exists() else ""
        if self._secrets.get("kubeconfig"):
            values = yaml.safe_load(self._secrets["kubeconfig"])
            config.load_kube_config_from_dict(values, context=name, client_configuration=settings)
            contexts, active = values["contexts"], {"name": values.get("current-context")}
        else:
            path = self._settings["kubeconfig_path"] or None
            config.load_kube_config(path, context=name, client_configuration=settings)
            contexts, active = config.list_kube_config_contexts(path)
        used = name or active["name"]
        found: dict[str, Any] = next((each["context"] for each in contexts if each["name"] == used), {})
        return found.get("namespace") or ""


def _ref(each: dict[str, Any]) -> str:
    return each["metadata"].get("labels", {}).get(REF, "")


def _fault(error: ApiException) -> RuntimeFault:
    """Kubernetes' message, which stands in the answer's body."""
    try:
        message = json.loads(error.body or "")["message"]
    except (TypeError, ValueError, KeyError):
        message = error.reason or "no reason given"
    if error.status == UNAUTHORIZED:
        message = f"the credentials of this runtime are not valid, or not any more ({message})"
    kind = Absent if error.status == ABSENT else RuntimeFault
    return kind(f"Kubernetes refuses: {message}", permanent=error.status in PERMANENT)


def _unusable(error: Exception) -> RuntimeFault:
    # Not its text: that may quote the kubeconfig, which holds keys.
    words = f"The credentials of this cluster can't be used ({type(error).__name__})."
    return RuntimeFault(words, permanent=True)


def _unreachable(error: Exception) -> RuntimeFault:
    cause = getattr(error, "reason", None) or error
    return RuntimeFault(f"Kubernetes does not answer: {type(cause).__name__}.")
