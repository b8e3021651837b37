"""Runs services as containers, by the Docker API: podman's socket or Docker's.

Containers are probed and restarted by our supervisor: podman runs health checks only where systemd does,
and its restarts have no back-off. Everything is found again by label; events are not relied on.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Collection
from typing import Any, ClassVar

import docker
import requests
from docker.errors import APIError, DockerException, ImageNotFound, NotFound

from workflows_app.drivers.base import Plan, RuntimeFault, Setting
from workflows_app.drivers.hosted.driver import HostedRuntime
from workflows_app.drivers.hosted.replica import Exit, Host, HostFault, Replica, Seen
from workflows_app.drivers.process import free_port

RUNTIME, REPLICA, SERVICE = "muster.runtime", "muster.replica", "muster.service"
TIMEOUT = 30
KILLED = 137  # 128 + SIGKILL


class ContainerRuntime(HostedRuntime):
    """One container engine."""

    kind = "container"
    label = "Containers (Docker API)"
    settings: ClassVar[tuple[Setting, ...]] = (
        Setting("url", "Engine", default="unix:///var/run/docker.sock",
                help="Such as unix:///run/podman/podman.sock or tcp://10.0.0.5:2375."),
        Setting("network", "Network", default="bridge", choices=("bridge", "host"),
                help="bridge publishes a port of 127.0.0.1 for each container; host gives it one in PORT."),
        Setting("pull", "Pull images", default="missing", choices=("missing", "never")),
        Setting("reached_at", "Address of published ports", default="127.0.0.1"),
    )  # fmt: skip

    def host(self) -> ContainerHost:
        return ContainerHost(self.store, self._settings, self.name)

    def check(self, plan: Plan) -> list[str]:
        return [
            f"Service {service.name} has no image, which is what container runtimes run."
            for service in plan.services
            if not service.image
        ]

    def logs(self, ref: str, service: str, replica: str, lines: int) -> str:
        known = self._replica(ref, service, replica)
        try:
            return self.host().logs(known, lines)
        except HostFault as fault:
            raise RuntimeFault(str(fault)) from None


class ContainerHost(Host):
    """One container for each replica, by its name; each start of it is a start of the same container."""

    creating = "ContainerCreating"

    def __init__(self, store: Any, settings: Any, runtime: str) -> None:
        super().__init__(store, settings)
        # Two installations may share an engine: only what carries our own directory is ours.
        self._label = f"{runtime}:{store.directory}"
        self._local = threading.local()

    def start(self, replica: Replica) -> None:
        containers = self._engine().containers
        try:
            with contextlib.suppress(NotFound):
                container = containers.get(replica.name)
                container.start()
                self._note_address(replica, container)
                return
            container = containers.create(**self._options(replica))
            container.start()
            self._note_address(replica, container)
        except ImageNotFound:
            self._pull(replica.plan.image)
            self.start(replica)
        except APIError as error:
            raise HostFault("CreateContainerError", error.explanation or str(error)) from None
        except (DockerException, requests.RequestException) as error:
            raise self._fault(error) from None

    def _pull(self, image: str) -> None:
        if self.settings["pull"] == "never":
            raise HostFault("ErrImageNeverPull", f"Image {image} is not there, and none is pulled.")
        try:
            self._engine(pulling=True).images.pull(image)
        except APIError as error:
            raise HostFault("ErrImagePull", f"{image}: {error.explanation or error}") from None
        except (DockerException, requests.RequestException) as error:
            raise self._fault(error) from None

    def _options(self, replica: Replica) -> dict[str, Any]:
        plan = replica.plan
        options: dict[str, Any] = {
            "image": plan.image,
            "name": replica.name,
            "labels": {RUNTIME: self._label, REPLICA: replica.name, SERVICE: plan.id},
            "environment": dict(plan.environment),
            "detach": True,
        }
        if plan.command:
            options["entrypoint"] = list(plan.command)
        if plan.args:
            options["command"] = list(plan.args)
        if plan.cpu is not None:
            options["nano_cpus"] = round(plan.cpu * 10**9)
        if plan.memory is not None:
            options["mem_limit"] = plan.memory
        if self.settings["network"] == "host":
            options["network_mode"] = "host"
            if plan.port is not None:
                replica.port = free_port()
                options["environment"] |= {"HOST": "127.0.0.1", "PORT": str(replica.port)}
        elif plan.port is not None:
            options["environment"] |= {"HOST": "0.0.0.0", "PORT": str(plan.port)}  # noqa: S104
            ports = {plan.port, plan.probe.port or plan.port} if plan.probe else {plan.port}
            options["ports"] = {f"{port}/tcp": (self.settings["reached_at"], None) for port in ports}
        return options

    def _note_address(self, replica: Replica, container: Any) -> None:
        container.reload()
        published = {
            port.split("/")[0]: int(bindings[0]["HostPort"])
            for port, bindings in (container.attrs["NetworkSettings"].get("Ports") or {}).items()
            if bindings
        }
        replica.details = {"container": container.id, "ports": published}

    def look(self, replicas: Collection[Replica]) -> dict[str, Seen]:
        if not replicas:
            return {}
        try:
            found = self._ours()
            return {replica.name: self._seen(found.get(replica.name)) for replica in replicas}
        except (DockerException, requests.RequestException) as error:
            raise self._fault(error) from None

    def _ours(self) -> dict[str, dict[str, Any]]:
        """One listing of everything of ours; RuntimeFault's cause where the engine is away."""
        listing = self._engine().api.containers(all=True, filters={"label": f"{RUNTIME}={self._label}"})
        return {each["Labels"][REPLICA]: each for each in listing}

    def _seen(self, listed: dict[str, Any] | None) -> Seen:
        if listed is None:
            return Seen(False, Exit(words="the container was removed by somebody else"))
        if listed["State"] in {"running", "paused", "restarting", "removing", "stopping"}:
            return Seen(True)
        state = self._engine().api.inspect_container(listed["Id"])["State"]
        code = state.get("ExitCode")
        word = "OOMKilled" if state.get("OOMKilled") else ""
        words = state.get("Error") or ""
        if code == KILLED and not words and not word:
            # podman leaves OOMKilled false after an OOM kill; this much is sure.
            words = "exit code 137: it was killed, by its memory limit or by somebody"
        return Seen(False, Exit(code=code, word=word, words=words))

    def stop(self, replica: Replica, *, force: bool) -> None:
        try:
            container = self._engine().containers.get(replica.name)
            # By the engine, never by process number: that is 0 for a container that is not running.
            container.kill(signal="SIGKILL" if force else "SIGTERM")
        except NotFound:
            return
        except APIError as error:
            if error.status_code != 409:  # it has ended meanwhile
                raise HostFault("StopError", error.explanation or str(error)) from None
        except (DockerException, requests.RequestException) as error:
            raise self._fault(error) from None

    def forget(self, replica: Replica) -> None:
        self._remove(replica.name)

    def _remove(self, name: str) -> None:
        try:
            self._engine().containers.get(name).remove(force=True)
        except NotFound:
            return
        except APIError as error:
            raise HostFault("RemoveError", error.explanation or str(error)) from None
        except (DockerException, requests.RequestException) as error:
            raise self._fault(error) from None

    def end_strays(self, known: Collection[str]) -> None:
        try:
            strays = self._ours().keys() - set(known)
        except (DockerException, requests.RequestException) as error:
            raise self._fault(error) from None
        for name in strays:
            self._remove(name)

    def address(self, replica: Replica, port: int | None) -> tuple[str, int] | None:
        if self.settings["network"] == "host":
            number = port if port not in (None, replica.plan.port) else replica.port
            return ("127.0.0.1", number) if number else None
        number = replica.details.get("ports", {}).get(str(port or replica.plan.port))
        return (self.settings["reached_at"], number) if number else None

    def logs(self, replica: Replica, lines: int) -> str:
        """The last lines. Raises HostFault."""
        try:
            data: bytes = self._engine().containers.get(replica.name).logs(tail=lines)
        except NotFound:
            return ""
        except (DockerException, requests.RequestException) as error:
            raise self._fault(error) from None
        return data.decode("utf-8", "replace")

    def _engine(self, pulling: bool = False) -> docker.DockerClient:
        """This thread's client: their connections are not to be shared. Raises HostFault."""
        name = "puller" if pulling else "engine"
        if getattr(self._local, name, None) is None:
            try:
                engine = docker.DockerClient(
                    base_url=self.settings["url"], version="auto", timeout=600 if pulling else TIMEOUT
                )
            except (DockerException, requests.RequestException) as error:
                raise self._fault(error) from None
            setattr(self._local, name, engine)
        engine_: docker.DockerClient = getattr(self._local, name)
        return engine_

    def _fault(self, error: Exception) -> HostFault:
        return HostFault("EngineError", f"The container engine does not answer: {type(error).__name__}.")
