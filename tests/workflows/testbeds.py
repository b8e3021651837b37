"""A real Kubernetes control plane and a real podman for tests, where this machine has what they need."""

from __future__ import annotations

import contextlib
import lzma
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.base import PROJECT, wait_until

IMAGE = "localhost/muster-test:1"
CONTAINERS_CONF = """
[containers]
default_ulimits = ["nofile=20000:20000", "nproc=32768:32768"]
[engine]
runtime = "{runtime}"
"""

# The rights that docs/workflows.md asks for, and no others.
RIGHTS = """
apiVersion: v1
kind: ServiceAccount
metadata: {name: muster}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: muster}
rules:
- {apiGroups: [apps], resources: [deployments], verbs: [get, list, watch, create, patch, delete]}
- {apiGroups: [""], resources: [services], verbs: [get, list, watch, create, patch, delete]}
- {apiGroups: [""], resources: [pods], verbs: [get, list, watch]}
- {apiGroups: [apps], resources: [replicasets], verbs: [get, list, watch]}
- {apiGroups: [""], resources: [pods/log], verbs: [get]}
- {apiGroups: [""], resources: [events], verbs: [get, list]}
- {apiGroups: [autoscaling], resources: [horizontalpodautoscalers], verbs: [list]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: muster}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: muster}
subjects: [{kind: ServiceAccount, name: muster, namespace: inside}]
"""


def _free_ports(count: int) -> int:
    """The first of so many ports in a row that nobody listens on."""
    for base in range(26440, 31000, 10):
        with contextlib.ExitStack() as held:
            try:
                for port in range(base, base + count):
                    probe = held.enter_context(socket.socket())
                    probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return base
    raise AssertionError("No free ports were found.")


class Cluster:
    """etcd, API server, controller manager and scheduler; nodes are played by fake_kubelet.py."""

    def __init__(self, source: Path, directory: Path) -> None:
        self._source, self._directory = source, directory
        self.kubeconfig = directory / "run" / "admin.kubeconfig"
        self._kubelet: subprocess.Popen[bytes] | None = None
        self._environment = {
            **os.environ,
            "BIN": str(directory / "bin"),
            "RUN": str(directory / "run"),
            "PORT_BASE": str(_free_ports(6)),
        }

    def start(self) -> None:
        """Unpack the programs and start them: some 20 s."""
        programs = self._directory / "bin"
        programs.mkdir(parents=True)
        with lzma.open(self._source / "hyper.xz") as packed, (programs / "hyper").open("wb") as file:
            shutil.copyfileobj(packed, file)
        (programs / "hyper").chmod(0o755)
        for name in ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubectl"):
            (programs / name).symlink_to("hyper")
        self._script("up.sh")

    def stop(self) -> None:
        """End all that was started."""
        self.remove_nodes()
        self._script("down.sh")

    def _script(self, name: str) -> None:
        done = subprocess.run(
            ["bash", str(self._source / name)],
            env=self._environment,
            capture_output=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, done.stderr.decode()

    def add_nodes(self, count: int = 2, *options: str) -> None:
        """Let so many nodes join."""
        command = [
            sys.executable,
            str(self._source / "fake_kubelet.py"),
            "--kubeconfig",
            str(self.kubeconfig),
        ]
        self._kubelet = subprocess.Popen(
            [*command, "--nodes", str(count), *options], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )

    def remove_nodes(self) -> None:
        """Nobody plays the nodes any more, and nothing is scheduled to them: a pod would never end there."""
        if self._kubelet is not None:
            self._kubelet.terminate()
            self._kubelet.wait()
            self._kubelet = None
            self.kubectl("delete", "nodes", "--all")

    def kubectl(self, *arguments: str) -> str:
        """What kubectl says."""
        command = [str(self._directory / "bin" / "kubectl"), "--kubeconfig", str(self.kubeconfig), *arguments]
        return subprocess.run(command, capture_output=True, check=True, timeout=60).stdout.decode()


def start_cluster() -> Iterator[Cluster]:
    """A cluster for the tests of one module; skips with the reason where there can be none."""
    named = os.environ.get("MUSTER_TEST_KUBERNETES")
    source = Path(named) if named else PROJECT.parent / "shared" / "testbeds" / "kubernetes"
    if not (source / "up.sh").exists():
        pytest.skip(
            f"no Kubernetes control plane: {source} is not there (MUSTER_TEST_KUBERNETES may name it)"
        )
    for program in ("etcd", "openssl", "curl", "bash"):
        if shutil.which(program) is None:
            pytest.skip(f"no Kubernetes control plane: {program} is not installed")
    directory = Path(tempfile.mkdtemp(prefix="muster-k8s-", dir="/tmp"))
    cluster = Cluster(source, directory)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()
        shutil.rmtree(directory, ignore_errors=True)


class Podman:
    """podman's Docker API on a socket, with a directory of its own and one image made of busybox."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.url = f"unix://{directory}/api.sock"
        self._options = ["--root", f"{directory}/root", "--runroot", f"{directory}/run"]
        runtime = "runc" if shutil.which("runc") else "crun"
        (directory / "containers.conf").write_text(CONTAINERS_CONF.format(runtime=runtime))
        self._environment = {**os.environ, "CONTAINERS_CONF": str(directory / "containers.conf")}
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> str:
        """Why it can't run here; "" where it does."""
        (self._directory / "tree" / "bin").mkdir(parents=True)
        (self._directory / "tree" / "tmp").mkdir()
        busybox = shutil.which("busybox")
        assert busybox is not None
        shutil.copy(busybox, self._directory / "tree" / "bin" / "busybox")
        for name in ("sh", "sleep", "httpd"):
            (self._directory / "tree" / "bin" / name).symlink_to("busybox")
        (self._directory / "tree" / "index.html").write_text("1")
        subprocess.run(
            ["tar", "-C", str(self._directory / "tree"), "-cf", str(self._directory / "image.tar"), "."],
            check=True,
        )
        made = self._podman("import", str(self._directory / "image.tar"), IMAGE)
        if made.returncode:
            return made.stderr.decode().strip().splitlines()[-1]
        tried = self._podman("run", "--rm", "--network=host", IMAGE, "/bin/sh", "-c", "exit 0")
        if tried.returncode:
            return tried.stderr.decode().strip().splitlines()[-1]
        self.serve()
        return ""

    def serve(self) -> None:
        """Start the API service."""
        self._process = subprocess.Popen(
            ["podman", *self._options, "system", "service", "--time=0", self.url],
            env=self._environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        wait_until((self._directory / "api.sock").exists, what="podman's socket")

    def end_service(self) -> None:
        """Kill the API service; containers go on."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
        (self._directory / "api.sock").unlink(missing_ok=True)

    def stop(self) -> None:
        """Remove every container, end the service."""
        self._podman("rm", "--all", "--force", "--time", "1")
        self.end_service()
        self._podman("system", "reset", "--force")

    def _podman(self, *arguments: str) -> Any:
        command = ["podman", *self._options, *arguments]
        return subprocess.run(command, env=self._environment, capture_output=True, timeout=120, check=False)


def start_podman() -> Iterator[Podman]:
    """A podman for the tests of one module; skips with the reason where there can be none."""
    for program in ("podman", "busybox", "conmon"):
        if shutil.which(program) is None:
            pytest.skip(f"no container engine: {program} is not installed")
    directory = Path(tempfile.mkdtemp(prefix="muster-podman-", dir="/tmp"))
    podman = Podman(directory)
    try:
        problem = podman.start()
        if problem:
            pytest.skip(f"no container engine: podman can't run containers here ({problem})")
        yield podman
    finally:
        podman.stop()
        shutil.rmtree(directory, ignore_errors=True)
