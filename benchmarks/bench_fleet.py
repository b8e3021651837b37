"""The emulated fleet's own cost, and our Redfish driver against it.

The driver talks to one address per BMC, so that each BMC is a connection (and a TLS handshake) of its own;
50 ms per request and 3 s to switch on (5 s at 10,000), basic authentication: as in the measurements of
redfishpower and of other Python clients that it is held against.
"""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
import subprocess
import sys
from typing import Any

import uvloop

from benchmarks.fleet import ROOT, FleetProcess
from benchmarks.measure import cpu_seconds, fleets, joined_authorities
from benchmarks.report import BenchOptions, Report

USER, PASSWORD = "admin", "emulated"
LOAD_CONNECTIONS, LOAD_REQUESTS = 32, 20_000
# CPU ms per node of redfishpower, the C client to beat, by (size, task); measured on a machine like ours
# with HTTPS, interpreter or process start included. At 10,000 it ran as ten processes.
REDFISHPOWER = {
    (1_000, "state"): 2.0,
    (1_000, "switch"): 2.5,
    (10_000, "state"): 3.4,
    (10_000, "switch"): 5.9,
}
TASKS = {"state": "read the power state", "switch": "switch on, poll until on", "on": "boot override and on"}


def run(options: BenchOptions) -> Report:
    """Own cost, then state, switch and on for each size, over HTTP and HTTPS."""
    report = Report("fleet")
    own_cost(report)
    for size in options.sizes_or(1_000, 10_000):
        for https in (False, True):
            for what in TASKS:
                drive(report, size, what, https)
    report.notes += [
        "The fleet's own cost is that of the process that answers, without the client's.",
        "redfishpower's figures are from earlier runs on a machine like this, not from this run: "
        "trust the order of magnitude. It polls like `switch` and sets no boot override.",
        "Certificates are verified against the fleet's CA; redfishpower verified none.",
    ]
    return report


def own_cost(report: Report) -> None:
    """CPU of the fleet per request, from a client that does nothing but send and wait."""
    for https in (False, True):
        scheme = "https" if https else "http"
        with FleetProcess("--count", "1000", "--auth", "basic", *(["--https"] if https else [])) as fleet:
            for what in ("GET a System", "PATCH its boot override"):
                used = uvloop.run(load(fleet, "PATCH" if what.startswith("PATCH") else "GET", https))
                report.add(
                    f"fleet: {what}, {scheme}",
                    used * 1000 / LOAD_REQUESTS,
                    "ms CPU",
                    reference=0.18,
                    against="the tried one (http)",
                    within=None if https else 1.0,
                )


async def load(fleet: FleetProcess, method: str, https: bool) -> float:
    """Send LOAD_REQUESTS requests over kept connections; the CPU seconds that the fleet spent."""
    address = fleet.inventory[0]["address"].split("/")[2]
    host, port = address.split(":")
    context = None
    if https:
        context = ssl.create_default_context(cafile=fleet.ready["ca"])
    credentials = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
    body = '{"Boot": {"BootSourceOverrideTarget": "Pxe"}}' if method == "PATCH" else ""

    def request(number: int) -> bytes:
        path = f"/bmc/{number % 1000:05d}/redfish/v1/Systems/1"
        head = f"{method} {path} HTTP/1.1\r\nHost: {address}\r\nAuthorization: Basic {credentials}\r\n"
        return f"{head}Accept: application/json\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()

    async def client(numbers: range) -> None:
        reader, writer = await asyncio.open_connection(host, int(port), ssl=context)
        for number in numbers:
            writer.write(request(number))
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 20"), head
            if b"Content-Length: " in head:
                await reader.readexactly(int(head.split(b"Content-Length: ")[1].split(b"\r\n")[0]))
        writer.close()

    before = cpu_seconds(fleet.pid)
    share = LOAD_REQUESTS // LOAD_CONNECTIONS
    await asyncio.gather(*(client(range(share * one, share * (one + 1))) for one in range(LOAD_CONNECTIONS)))
    return cpu_seconds(fleet.pid) - before


def drive(report: Report, size: int, what: str, https: bool) -> None:
    """Run the driver on a new fleet and add its rows."""
    arguments = ["--by", "address", "--auth", "basic", "--delay", "0.05"]
    arguments += ["--on-seconds", "5" if size > 1_000 else "3", *(["--https"] if https else [])]
    with fleets(size, *arguments) as parts:
        settings: dict[str, Any] = {"username": USER}
        if https:
            # One CA file for all processes of the fleet.
            settings["ca_file"] = joined_authorities(parts)
        figures = _in_a_process(
            {
                "what": what,
                "nodes": [node for part in parts for node in part.inventory],
                "settings": settings,
                "secrets": {"password": PASSWORD},
            }
        )
        seen = [part.control() for part in parts]
    scheme = "https" if https else "http"
    name = f"driver: {TASKS[what]}, {size:,} × {scheme}"
    peer = REDFISHPOWER.get((size, what)) if https else None
    report.add(
        name,
        figures["cpu_seconds"] * 1000 / size,
        "ms CPU/node",
        reference=peer,
        against="redfishpower" if peer else "",
        within=None,
    )
    report.add("  requests per node", sum(one["requests"] for one in seen) / size, "")
    report.add("  connections per node", sum(one["connections"] for one in seen) / size, "")
    report.add("  nodes per second of wall time", size / figures["wall_seconds"], "/s", better="more")
    report.add("  peak memory of the process", figures["peak_rss_mb"], "MB", reference=300, against="limit")
    failed = sum(figures["errors"].values())
    report.add("  nodes not done", failed, "nodes", reference=size, against="of", within=0.0)
    if failed:
        report.notes.append(f"{name}: {figures['errors']}")


def _in_a_process(task: dict[str, Any]) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.drive"],
        input=json.dumps(task),
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=900,
    )
    if done.returncode:
        raise RuntimeError(f"the driver's process failed: {done.stderr.strip()[-2000:]}")
    figures: dict[str, Any] = json.loads(done.stdout)
    return figures
