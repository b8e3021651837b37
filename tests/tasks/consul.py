"""A real Consul for tests: the binary that MUSTER_TEST_CONSUL names, or the package of the test bed."""

from __future__ import annotations

import os
import socket
import subprocess
from pathlib import Path
from typing import Any

import requests

from deploy.local.keep import die_with_parent
from tests.base import PROJECT, wait_until

TESTBED = PROJECT.parent / "shared" / "testbeds" / "consul"
REASON = "no Consul: neither MUSTER_TEST_CONSUL nor ../shared/testbeds/consul names one"


def find_binary(directory: Path) -> Path | None:
    """The program, unpacked below `directory` where it comes as a package; None where there is none."""
    named = os.environ.get("MUSTER_TEST_CONSUL")
    if named:
        return Path(named)
    packages = sorted(TESTBED.glob("consul_*.deb")) if TESTBED.is_dir() else []
    if not packages:
        return None
    subprocess.run(["dpkg", "-x", str(packages[-1]), str(directory)], check=True)
    return directory / "usr" / "bin" / "consul"


class ConsulServer:
    """An agent in development mode on free ports; keeps nothing."""

    def __init__(self, binary: Path) -> None:
        self.binary = binary
        self.port, *self._others = _free_ports(5)
        self.url = f"http://127.0.0.1:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        dns, serf, serf_wan, server = self._others
        options = f"-http-port={self.port} -dns-port={dns} -serf-lan-port={serf} -serf-wan-port={serf_wan}"
        options += f" -server-port={server} -grpc-port=-1 -bind=127.0.0.1 -log-level=err"
        self._process = subprocess.Popen(
            [str(self.binary), "agent", "-dev", *options.split()],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            preexec_fn=die_with_parent,
        )
        wait_until(self._has_leader, 120, "Consul to have a leader")

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def _has_leader(self) -> bool:
        try:
            return len(requests.get(f"{self.url}/v1/status/leader", timeout=5).json()) > 2
        except (requests.RequestException, ValueError):
            return False

    def put(self, path: str, body: Any = None, **params: str) -> None:
        answer = requests.put(
            f"{self.url}/v1/{path}",
            params=params,
            data=body if isinstance(body, str) else None,
            json=None if isinstance(body, str) else body,
            timeout=30,
        )
        answer.raise_for_status()

    def register(self, name: str, instance: str = "", **values: Any) -> None:
        """Register one instance of a service; it passes."""
        body = {"Name": name, "ID": instance or name, "Port": 80, **values}
        self.put("agent/service/register", body)

    def deregister(self, instance: str) -> None:
        """Remove one instance."""
        self.put(f"agent/service/deregister/{instance}")


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports
