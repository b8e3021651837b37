"""Runs services as processes of this machine, for one machine without containers or Kubernetes.

A process runs as the user that Muster runs as, with an environment of its own (none of Muster's), in a
directory of its own, on a port of its own (variable PORT).
"""

from __future__ import annotations

import contextlib
import math
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Collection
from pathlib import Path
from typing import Any, ClassVar

import psutil

from workflows_app.drivers.base import Plan, Setting
from workflows_app.drivers.hosted.driver import HostedRuntime
from workflows_app.drivers.hosted.replica import Exit, Host, HostFault, Replica, Seen
from workflows_app.drivers.hosted.store import read_json, write_json

SHIM = Path(__file__).with_name("shim.py")
MARK = "MUSTER_REPLICA"  # in the environment of everything that we start, down to the last grandchild
# Below the range from which outgoing connections draw their ports: one that is free stays free.
PORTS = range(20000, 32000)
REFERENCE = re.compile(r"\$\(([A-Za-z_][A-Za-z0-9_]*)\)|\$\$")
START_SECONDS = 20.0
# Of Muster's own environment only these: the others may be secrets.
INHERITED = ("PATH", "LANG", "LC_ALL", "TZ", "MUSTER_RUN")


class ProcessRuntime(HostedRuntime):
    """Local processes."""

    kind = "process"
    label = "Processes of this machine"
    settings: ClassVar[tuple[Setting, ...]] = (
        Setting("memory_share", "Share of the machine's memory", kind=float, default=0.8,
                help="Of what it has, so much may be promised to services."),
    )  # fmt: skip

    def host(self) -> ProcessHost:
        return ProcessHost(self.store, self._settings)

    def check(self, plan: Plan) -> list[str]:
        return [
            f"Service {service.name} has no command, which is what the process runtime runs."
            for service in plan.services
            if not service.command
        ]

    def alive(self, replica: str) -> bool:
        known = Replica.load(self.store.replicas / replica)
        return known is not None and identity(known.details.get("pid", 0)) == known.details.get("identity")


class ProcessHost(Host):
    """Starts a shim for each replica, which starts the process and notes its end."""

    creating = "ProcessCreating"

    def __init__(self, store: Any, settings: Any) -> None:
        super().__init__(store, settings)
        self._shims: dict[str, subprocess.Popen[bytes]] = {}
        self._cores: Counter[int] = Counter()  # core -> replicas that are bound to it
        self._cores_lock = threading.Lock()

    def start(self, replica: Replica) -> None:
        home = replica.home(self.store)
        place = home / f"run-{replica.attempt}"
        work = home / "work"
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(mode=0o700)
        work.mkdir(mode=0o700, exist_ok=True)
        shutil.rmtree(home / f"run-{replica.attempt - 1}", ignore_errors=True)
        if replica.plan.port is not None:
            replica.port = free_port()
        environment = self._environment(replica, place, work)
        command = [*replica.plan.command, *replica.plan.args]
        cores = self._choose_cores(replica.plan.cpu)
        write_json(
            place / "spec.json",
            {
                "command": [_expand(word, environment) for word in command],
                "environment": environment,
                "directory": str(work),
                "memory": replica.plan.memory,
                "cores": cores,
            },
        )
        log = os.open(home / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            shim = subprocess.Popen(
                [sys.executable, "-S", "-E", str(SHIM), str(place)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                env={name: environment[name] for name in (*INHERITED, MARK) if name in environment},
                start_new_session=True,
            )
        except OSError as error:
            raise HostFault("StartError", f"The process can't be started: {error.strerror}.") from None
        finally:
            os.close(log)
        self._shims[replica.name] = shim
        self._await(replica, place, shim)
        replica.details["cores"] = cores

    def _choose_cores(self, cpu: float | None) -> list[int]:
        """The cores a replica may use, those that fewest are bound to; none named where it may use all.

        Whole ones: without cgroups of our own, the kernel gives no parts of them.
        """
        if cpu is None or not hasattr(os, "sched_getaffinity"):
            return []
        ours = sorted(os.sched_getaffinity(0))
        if cpu >= len(ours):
            return []
        with self._cores_lock:
            chosen = sorted(ours, key=lambda core: self._cores[core])[: math.ceil(cpu)]
            self._cores.update(chosen)
        return chosen

    def _await(self, replica: Replica, place: Path, shim: subprocess.Popen[bytes]) -> None:
        """Until the process has a number; what becomes of it, `look` will tell."""
        until = time.monotonic() + START_SECONDS
        while (state := read_json(place / "state.json")) is None:
            ended = read_json(place / "exit.json")
            if ended is not None and ended.get("error"):
                raise HostFault("StartError", f"The process can't be started: {ended['error']}.")
            if shim.poll() is not None or time.monotonic() > until:
                raise HostFault("StartError", "The process can't be started: its shim has failed.")
            time.sleep(0.01)
        replica.details = _details(state, place)

    def _environment(self, replica: Replica, place: Path, work: Path) -> dict[str, str]:
        values = {name: os.environ[name] for name in INHERITED if name in os.environ}
        values |= {"PATH": values.get("PATH", os.defpath), "HOME": str(work), "PYTHONUNBUFFERED": "1"}
        if replica.port is not None:
            values |= {"PORT": str(replica.port), "HOST": "127.0.0.1"}
        return {**values, **replica.plan.environment, MARK: str(place)}

    def look(self, replicas: Collection[Replica]) -> dict[str, Seen]:
        with self._cores_lock:
            self._cores = Counter(core for each in replicas for core in each.details.get("cores", ()))
        return {replica.name: self._look(replica) for replica in replicas}

    def _look(self, replica: Replica) -> Seen:
        shim = self._shims.get(replica.name)
        shim_ended = shim is not None and shim.poll() is not None
        details = replica.details
        place = replica.home(self.store) / details.get("run", f"run-{replica.attempt}")
        if not details.get("pid"):
            # The supervisor was killed while it started this one.
            state = read_json(place / "state.json")
            if state is None:
                return Seen(False, Exit())
            details |= _details(state, place)
        ended = read_json(place / "exit.json")
        if ended is not None:
            return Seen(False, Exit(ended.get("code"), ended.get("signal")))
        if details["identity"] is not None and identity(details["pid"]) == details["identity"]:
            return Seen(True)
        # Ended, and its shim is about to say how, unless that is gone too.
        shim_identity = identity(details["shim"])
        if not shim_ended and shim_identity is not None and shim_identity == details["shim_identity"]:
            return Seen(True)
        return Seen(False, Exit())

    def stop(self, replica: Replica, *, force: bool) -> None:
        pid = replica.details.get("pid", 0)
        present = identity(pid)
        if present is None or present != replica.details["identity"]:
            return
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(pid, signal.SIGKILL if force else signal.SIGTERM)

    def forget(self, replica: Replica) -> None:
        prefix = str(replica.home(self.store)) + os.sep
        _end_marked(lambda mark: mark.startswith(prefix))
        shim = self._shims.pop(replica.name, None)
        if shim is not None:
            shim.poll()

    def end_strays(self, known: Collection[str]) -> None:
        ours = str(self.store.replicas) + os.sep
        names = set(known)

        def stray(mark: str) -> bool:
            return mark.startswith(ours) and mark.removeprefix(ours).split(os.sep)[0] not in names

        _end_marked(stray)

    def address(self, replica: Replica, port: int | None) -> tuple[str, int] | None:
        own = replica.plan.port
        if port is not None and port != own:
            return "127.0.0.1", port
        return ("127.0.0.1", replica.port) if replica.port is not None else None

    def refusal(self, replica: Replica, others: Collection[Replica]) -> str:
        if not replica.plan.memory:
            return ""
        limit = int(psutil.virtual_memory().total * self.settings["memory_share"])
        promised = sum(each.plan.memory or 0 for each in others if each.attempt and not each.ending)
        if promised + replica.plan.memory <= limit:
            return ""
        wants, left = _mebibytes(replica.plan.memory), _mebibytes(max(0, limit - promised))
        return f"0/1 machines are available: 1 Insufficient memory ({wants} asked for, {left} left)."


def _details(state: dict[str, Any], place: Path) -> dict[str, Any]:
    """What tells a replica's processes from all others."""
    return {
        "pid": state["pid"],
        "identity": identity(state["pid"]),
        "shim": state["shim"],
        "shim_identity": identity(state["shim"]),
        "run": place.name,
    }


def identity(pid: int) -> str | None:
    """Something that tells this process from a later one with the same number; None when it has ended."""
    if pid <= 0:
        return None
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        if Path("/proc/self/stat").exists():
            return None
        try:
            return f"{psutil.Process(pid).create_time():.2f}"
        except psutil.Error:
            return None
    return None if fields[0] in "ZX" else fields[19]  # state; start time in ticks since boot


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on. Raises HostFault."""
    for port in random.SystemRandom().sample(PORTS, 100):
        with socket.socket() as trial:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                trial.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise HostFault("StartError", "No free port was found on 127.0.0.1.")


def _expand(word: str, environment: dict[str, str]) -> str:
    """$(NAME) becomes the variable's value, $$ becomes $, as in Kubernetes; an unknown name stays."""

    def replace(match: re.Match[str]) -> str:
        return "$" if match[0] == "$$" else environment.get(match[1], match[0])

    return REFERENCE.sub(replace, word)


def _end_marked(chosen: Any) -> None:
    """End processes by the mark in their environment, whoever their parent is by now."""
    for process in psutil.process_iter():
        try:
            mark = process.environ().get(MARK, "")
            if mark and process.pid != os.getpid() and chosen(mark):
                process.kill()
        except (psutil.Error, OSError):
            continue


def _mebibytes(count: int) -> str:
    return f"{count // 2**20}Mi"
