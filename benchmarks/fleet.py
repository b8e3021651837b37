"""A fast emulated fleet of Redfish BMCs: `python -m benchmarks.fleet --count 1000 --port 0`.

Prints one line when it is ready, `ready {"count", "by", "address", "ca", "control", "inventory"}`, and runs
until SIGTERM or Ctrl-C. `docs/benchmarks.md` lists what it can do; `FleetProcess` starts one from Python.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import functools
import json
import resource
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import urllib.request
from dataclasses import fields
from pathlib import Path
from types import TracebackType
from typing import Any

import uvloop

from benchmarks.emulation.bmc import Bmc, Pages
from benchmarks.emulation.control import ControlConnection
from benchmarks.emulation.nodes import Nodes
from benchmarks.emulation.options import (
    NEEDS_OWN_SOCKET,
    RESET_TYPES,
    Fault,
    FleetOptions,
    OptionsError,
    Span,
    draw,
    loopback,
    mac,
)
from benchmarks.emulation.tls import Authority
from benchmarks.emulation.wire import BmcConnection, Counters
from benchmarks.emulation.witness import Contradiction, WitnessLog, check_witness

__all__ = ["Contradiction", "Fleet", "FleetOptions", "FleetProcess", "OptionsError", "check_witness"]

BACKLOG = 4096
# One each would be most like real BMCs, but costs 2 ms and 20 kB; with hundreds the client's memory per
# connection is ten times that of real certificates.
ADDRESSES_PER_CERTIFICATE = 8
ROOT = Path(__file__).resolve().parent.parent


class Fleet:
    """All BMCs of one process, their listeners, and the nodes behind them. Loopback only."""

    def __init__(self, options: FleetOptions) -> None:
        options.check()
        self.options = options
        self.counters = Counters()
        self._log = WitnessLog(options.log)
        self.nodes = Nodes(options, self._log)
        pages = Pages(options)
        self.bmcs = [
            Bmc(options.first + index, options, self._log, pages, self.nodes.power_changed)
            for index in range(options.count)
        ]
        self._deal_faults()
        self._authority: Authority | None = None
        self._places: list[tuple[str, int]] = []  # of each BMC; of the shared listener in path mode
        self._servers: dict[int, asyncio.AbstractServer] = {}
        self._idle: dict[int, list[socket.socket]] = {}  # what holds the place of a dead or silent BMC
        self._opening: set[asyncio.Future[None]] = set()  # keeps the tasks alive until they are done
        self._control: asyncio.AbstractServer | None = None
        self._folder = tempfile.TemporaryDirectory(prefix="fleet-tls-")

    async def start(self) -> None:
        """Listen everywhere. Raises OptionsError where the machine allows too few open files."""
        options = self.options
        listeners = 1 if options.by == "path" else options.count
        _allow_files(listeners + options.count + 200)
        if options.https:
            self._authority = Authority(options.tls_dir or self._folder.name)
        port = options.port
        for place in range(listeners):
            host = loopback(options.first + place) if options.by == "address" else "127.0.0.1"
            holder = _bind(host, port)
            self._places.append(holder.getsockname())
            if options.by == "address":
                port = holder.getsockname()[1]
            await self._open(place, holder)
        loop = asyncio.get_running_loop()
        self._control = await loop.create_server(lambda: ControlConnection(self), "127.0.0.1", 0)
        await self.nodes.start()

    async def stop(self) -> None:
        """Stop listening and everything under way."""
        await self.nodes.stop()
        for bmc in self.bmcs:
            bmc.close()
        for server in [*self._servers.values(), self._control]:
            if server is not None:
                server.close()
        for sockets in self._idle.values():
            for one in sockets:
                one.close()
        self._folder.cleanup()
        self._log.close()

    def address(self, bmc: Bmc) -> str:
        """Base URL of a BMC; Redfish paths are appended to it."""
        scheme = "https" if self.options.https else "http"
        if self.options.by == "path":
            host, port = self._places[0]
            return f"{scheme}://{host}:{port}/bmc/{bmc.index:05d}"
        host, port = self._places[bmc.index - self.options.first]
        return f"{scheme}://{host}:{port}"

    def inventory(self) -> list[dict[str, Any]]:
        """What a cluster's inventory says of each node."""
        return [
            {
                "xname": bmc.xname,
                "nid": bmc.index + 1,
                "mac": mac(bmc.index),
                "address": self.address(bmc),
                "system": f"/redfish/v1/Systems/{self.options.system}",
            }
            for bmc in self.bmcs
        ]

    def ready(self) -> dict[str, Any]:
        """What the `ready` line tells."""
        assert self._control is not None
        return {
            "count": self.options.count,
            "by": self.options.by,
            "address": self.address(self.bmcs[0]),
            "ca": str(self._authority.ca_file) if self._authority else None,
            "control": f"http://127.0.0.1:{self._control.sockets[0].getsockname()[1]}",
        }

    def set_fault(self, bmc: Bmc, fault: Fault | None) -> None:
        """Give a BMC a fault for all requests to come, or take it away."""
        before, bmc.fault = bmc.fault, fault
        if self.options.by != "path" and (before in NEEDS_OWN_SOCKET or fault in NEEDS_OWN_SOCKET):
            place = bmc.index - self.options.first
            self._close(place)
            task = asyncio.ensure_future(self._open(place, _bind(*self._places[place])))
            self._opening.add(task)
            task.add_done_callback(self._opening.discard)

    def _deal_faults(self) -> None:
        """Give each fault to its share of the BMCs, chosen by the seed."""
        order = sorted(self.bmcs, key=lambda bmc: draw(self.options.seed, bmc.index, 0))
        for fault, share in self.options.faults.items():
            dealt = round(share * len(self.bmcs))
            for bmc in order[:dealt]:
                bmc.fault = fault
            order = order[dealt:]

    async def _open(self, place: int, holder: socket.socket) -> None:
        fault = self.bmcs[place].fault if self.options.by != "path" else None
        if fault is Fault.DEAD:
            self._idle[place] = [holder]  # bound, not listening: refused, and nobody else takes the place
            return
        if fault is Fault.SILENT:
            # A queue of one place, taken by ourselves: the kernel drops every further SYN.
            holder.listen(0)
            self._idle[place] = [holder, socket.create_connection(holder.getsockname())]
            return
        find = self._find
        if self.options.by != "path":
            bmc = self.bmcs[place]
            find = lambda path: (bmc, path)  # noqa: E731 - called for each request, nothing cheaper
        factory = functools.partial(BmcConnection, find, self.options, self._log, self.counters)
        # A BMC's own queue is short; the shared one must take a whole fleet's first connections.
        self._servers[place] = await asyncio.get_running_loop().create_server(
            factory,
            sock=holder,
            ssl=self._context(place),
            backlog=BACKLOG if self.options.by == "path" else 16,
        )

    def _close(self, place: int) -> None:
        server = self._servers.pop(place, None)
        if server is not None:
            server.close()
        for one in self._idle.pop(place, []):
            one.close()

    def _context(self, place: int) -> ssl.SSLContext | None:
        if self._authority is None:
            return None
        if self.options.by != "address":
            return _context_of(self._authority, ("127.0.0.1",))
        number = self.options.first + place
        first = number - number % ADDRESSES_PER_CERTIFICATE
        addresses = tuple(loopback(first + step) for step in range(ADDRESSES_PER_CERTIFICATE))
        return _context_of(self._authority, addresses)

    def _find(self, path: str) -> tuple[Bmc | None, str]:
        """Part `/bmc/00042/redfish/v1` into the BMC and `/redfish/v1`."""
        number = path[5:10]
        if path[:5] != "/bmc/" or path[10:11] != "/" or not number.isdecimal():
            return None, path
        place = int(number) - self.options.first
        return (self.bmcs[place], path[10:]) if 0 <= place < len(self.bmcs) else (None, path)


@functools.cache
def _context_of(authority: Authority, addresses: tuple[str, ...]) -> ssl.SSLContext:
    return authority.context(addresses)


def _bind(host: str, port: int) -> socket.socket:
    one = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        one.bind((host, port))
    except OSError as problem:
        one.close()
        raise OptionsError(f"cannot listen on {host}:{port}: {problem.strerror}") from problem
    return one


def _allow_files(needed: int) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft >= needed:
        return
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, max(needed, hard)))
    except (OSError, ValueError):
        raise OptionsError(
            f"{needed} open files are needed and {hard} are allowed: raise `ulimit -n` or use --by path"
        ) from None


class FleetProcess:
    """A fleet in a process of its own; a context manager that stops it. Arguments as on the command line.

    `ready` holds what the process printed, `inventory` the nodes. Raises RuntimeError with the process's
    last words when it does not get ready.
    """

    def __init__(self, *arguments: str) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="fleet-")
        inventory = Path(self._folder.name) / "inventory.json"
        command = [sys.executable, "-m", "benchmarks.fleet", "--inventory", str(inventory), "--follow-stdin"]
        self._process = subprocess.Popen(
            [*command, "--tls-dir", self._folder.name, *arguments],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line.startswith("ready "):
            problem = self._process.communicate()[1]
            self._folder.cleanup()
            raise RuntimeError(f"the fleet did not start: {problem.strip()}")
        self.ready: dict[str, Any] = json.loads(line.removeprefix("ready "))
        self.inventory: list[dict[str, Any]] = json.loads(inventory.read_text())
        self.pid = self._process.pid

    def control(self, path: str = "/", body: Any = None) -> Any:
        """Ask the control door: a GET, or a POST of `body`; the answer's JSON, None where it is empty."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.ready["control"] + path, data)
        with urllib.request.urlopen(request, timeout=30) as answer:
            text = answer.read()
        return json.loads(text) if text else None

    def stop(self) -> None:
        """Stop the process and wait for its end."""
        self._process.terminate()
        self._process.communicate()
        self._folder.cleanup()

    def __enter__(self) -> FleetProcess:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def _share(text: str) -> tuple[Fault, float]:
    kind, _, share = text.partition("=")
    return Fault(kind), float(share)


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split(","))


def parse(arguments: list[str] | None = None) -> tuple[FleetOptions, argparse.Namespace]:
    """Options of the fleet and of the process. Exits with status 2 and a sentence for bad ones."""
    default = FleetOptions()
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fleet", description=__doc__.splitlines()[0])
    parser.add_argument("--by", choices=("path", "port", "address"), default=default.by)
    parser.add_argument("--power", choices=("off", "on", "mixed"), default=default.power)
    parser.add_argument("--auth", choices=("none", "basic", "session"), default=default.auth)
    parser.add_argument("--etag", choices=("none", "offered", "required"), default=default.etag)
    parser.add_argument("--reset-types", type=_words, default=RESET_TYPES, metavar="TYPE,...")
    for name in ("https", "plain_states", "monitor", "action_info", "http_boot", "strict"):
        parser.add_argument(f"--{name.replace('_', '-')}", action="store_true")
    for name in ("on", "off", "graceful", "firmware", "boot"):
        field_name = f"{name}_seconds"
        parser.add_argument(
            f"--{name}-seconds", type=Span.parse, default=getattr(default, field_name), metavar="S or S..S"
        )
    for name in ("count", "first", "port", "seed", "session_limit", "retry_after", "node_requests"):
        parser.add_argument(
            f"--{name.replace('_', '-')}", type=int, default=getattr(default, name), metavar="N"
        )
    for name in ("delay", "slow_seconds", "retry_seconds"):
        parser.add_argument(
            f"--{name.replace('_', '-')}", type=float, default=getattr(default, name), metavar="S"
        )
    for name in ("tls_dir", "user", "password", "system", "log", "muster", "token"):
        parser.add_argument(f"--{name.replace('_', '-')}", default=getattr(default, name), metavar="TEXT")
    kinds = ", ".join(Fault)
    parser.add_argument("--fault", action="append", default=[], type=_share, metavar="KIND=SHARE", help=kinds)
    parser.add_argument("--flaky", action="append", default=[], type=_share, metavar="KIND=RATE")
    parser.add_argument("--inventory", metavar="FILE", help="write the nodes as JSON")
    parser.add_argument("--follow-stdin", action="store_true", help="end when standard input ends")
    given = parser.parse_args(arguments)
    given.faults, given.flaky = dict(given.fault), dict(given.flaky)
    options = FleetOptions(**{one.name: getattr(given, one.name) for one in fields(FleetOptions)})
    try:
        options.check()
    except OptionsError as problem:
        parser.error(str(problem))
    return options, given


async def serve(options: FleetOptions, given: argparse.Namespace) -> None:
    """Run a fleet until a signal, or the end of standard input where that was asked for."""
    fleet = Fleet(options)
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, ended.set)
    try:
        await fleet.start()
        if given.inventory:
            Path(given.inventory).write_text(json.dumps(fleet.inventory()))
        if given.follow_stdin:
            loop.add_reader(sys.stdin.fileno(), lambda: sys.stdin.buffer.read1() or ended.set())
        print("ready", json.dumps(fleet.ready() | {"inventory": given.inventory}), flush=True)
        await ended.wait()
    finally:
        await fleet.stop()


def main() -> None:
    """The command line."""
    options, given = parse()
    with contextlib.suppress(BrokenPipeError):
        try:
            uvloop.run(serve(options, given))
        except OptionsError as problem:
            sys.exit(f"fleet: {problem}")


if __name__ == "__main__":
    main()
