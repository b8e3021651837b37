"""Does for each emulated node that is switched on what a real one does over HTTP.

The emulator tells of each change of a node's power. A node that came on waits as for its firmware, fetches
its boot script (by MAC address, as iPXE does), waits as for its kernel, and reports with the token from the
script's kernel parameters until that is accepted; then again every 0.75 * bos_update_frequency (contracts,
BOS 4.5). A node that goes off stops in the middle of it.

What each node is at stands in HOME/fleet/state/companion.jsonl, so that a restart of this process looks to
the nodes like nothing at all.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import random
import re
import signal
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web

from deploy.emulated_fleet.fleet import Fleet, FleetNode, load_fleet, state_directory
from deploy.local.home import Home

log = logging.getLogger("companion")

FIRMWARE_SECONDS = (0.5, 2.0)  # from power to the request for the boot script
KERNEL_SECONDS = (0.5, 2.0)  # from the script to the first report
FIRST_PAUSE, LONGEST_PAUSE = 2.0, 30.0  # between reports that were not accepted
SCRIPT_PAUSE = 5.0  # iPXE tries again where it got no script
AT_ONCE = 64  # requests to Muster
TOKEN = re.compile(r"\bbss_referral_token=(\S+)")
FREQUENCY = re.compile(r"\bbos_update_frequency=(\d+)([mhdw])", re.IGNORECASE)
UNIT_SECONDS = {"m": 60, "h": 3600, "d": 86400, "w": 604800}


@dataclass
class Boot:
    """How far a node is: off; on without a token (firmware); with one (kernel up); reported."""

    power: str = "Off"
    token: str = ""
    frequency: float = 4 * 3600.0
    reported: bool = False


class Companion:
    """All nodes of the fleet, one task for each that is on."""

    def __init__(self, fleet: Fleet, url: str, memory: Path) -> None:
        self._url = url
        self._fleet = fleet
        self._nodes = {node.system.rpartition("/")[2]: node for node in fleet.nodes}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._memory = Memory(memory)
        self._boots = {node.xname: self._memory.boots.get(node.xname, Boot()) for node in fleet.nodes}
        self._places = asyncio.Semaphore(AT_ONCE)
        self._http: aiohttp.ClientSession  # made in the event loop, by `start`

    async def start(self, app: web.Application) -> None:
        """Go on where the last run stopped, then look for changes that nobody was there to hear of."""
        self._http = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=30))
        for node in self._fleet.nodes:
            if self._boots[node.xname].power == "On":
                self._begin(node)
        self._look = asyncio.create_task(self._look_at_all())

    async def stop(self, app: web.Application) -> None:
        """End every node's task; the nodes themselves go on when this process comes back."""
        tasks = [*self._tasks.values(), self._look]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._http.close()

    async def hear(self, request: web.Request) -> web.Response:
        """PUT of the emulator: the whole system as JSON; not every one of them is about power."""
        try:
            system = await request.json()
            node, power = self._nodes[system["uuid"]], system["power_state"]
        except (ValueError, KeyError, TypeError):
            return web.Response(status=400, text="This is not a system of the fleet.\n")
        self._note_power(node, power)
        return web.Response(status=204)

    def _note_power(self, node: FleetNode, power: str) -> None:
        if power == self._boots[node.xname].power:
            return
        log.info("%s is %s", node.xname, power)
        self._remember(node, Boot(power=power))
        task = self._tasks.pop(node.xname, None)
        if task:
            task.cancel()
        if power == "On":
            self._begin(node)

    def _begin(self, node: FleetNode) -> None:
        self._tasks[node.xname] = asyncio.create_task(self._live(node), name=node.xname)

    def _remember(self, node: FleetNode, boot: Boot) -> None:
        self._boots[node.xname] = boot
        self._memory.write(node.xname, boot)

    async def _live(self, node: FleetNode) -> None:
        """A node's life from power on, or from where it was when this process last ended."""
        boot = self._boots[node.xname]
        if not boot.token:
            await asyncio.sleep(random.uniform(*FIRMWARE_SECONDS))  # noqa: S311
            boot = await self._fetch_script(node)
            self._remember(node, boot)
            await asyncio.sleep(random.uniform(*KERNEL_SECONDS))  # noqa: S311
        while True:
            if not boot.reported:
                await self._report(node, boot)
                boot.reported = True
                self._remember(node, boot)
                log.info("%s has booted and reported", node.xname)
            await asyncio.sleep(0.75 * boot.frequency)
            boot.reported = False

    async def _fetch_script(self, node: FleetNode) -> Boot:
        """As iPXE: again and again until there is one to boot from."""
        while True:
            status, script = await self._request(
                "GET", "/apis/bss/boot/v1/bootscript", params={"mac": node.mac}
            )
            token = TOKEN.search(script)
            if status == 200 and token:
                frequency = FREQUENCY.search(script)
                boot = Boot(power="On", token=token[1])
                if frequency:
                    boot.frequency = float(frequency[1]) * UNIT_SECONDS[frequency[2].lower()]
                return boot
            log.warning("%s got no boot script (%s)", node.xname, status or script)
            await asyncio.sleep(SCRIPT_PAUSE)

    async def _report(self, node: FleetNode, boot: Boot) -> None:
        """As the reporter on a node: until accepted, 2 s and then ever longer up to 30 s apart."""
        pause = FIRST_PAUSE
        body = {"id": node.xname, "actual_state": {"bss_token": boot.token}}
        while True:
            status, text = await self._request(
                "PATCH", f"/apis/bos/v2/components/{node.xname}", json=body,
                headers={"Authorization": f"Bearer {boot.token}"},
            )  # fmt: skip
            if status == 200:
                return
            log.warning("%s's report was not accepted (%s)", node.xname, status or text)
            await asyncio.sleep(pause)
            pause = min(pause + 2.0, LONGEST_PAUSE)

    async def _request(self, method: str, path: str, **more: Any) -> tuple[int, str]:
        """Status and text; status 0 where nobody answered."""
        try:
            async with self._places, self._http.request(method, self._url + path, **more) as answer:
                return answer.status, await answer.text()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            return 0, type(error).__name__

    async def _look_at_all(self) -> None:
        """Ask the emulator for each node's power once: what changed while this process was away."""
        await asyncio.gather(*(self._look_at(node) for node in self._fleet.nodes))

    async def _look_at(self, node: FleetNode) -> None:
        while True:
            try:
                async with self._places, self._http.get(self._fleet.url + node.system) as answer:
                    self._note_power(node, (await answer.json())["PowerState"])
                    return
            except (aiohttp.ClientError, TimeoutError, OSError, ValueError, KeyError):
                await asyncio.sleep(1.0)  # the emulator is still starting


class Memory:
    """One JSON line per change, the last one of a node counts; rewritten when it is opened."""

    def __init__(self, path: Path) -> None:
        self.boots: dict[str, Boot] = {}
        if path.exists():
            for line in path.read_text().splitlines():
                try:
                    name, boot = json.loads(line)
                    self.boots[name] = Boot(**boot)
                except (ValueError, TypeError):
                    continue  # the last line of a killed process
        temporary = path.with_suffix(".new")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.writelines(self._line(name, boot) for name, boot in self.boots.items())
        temporary.replace(path)
        self._file = path.open("a", buffering=1)

    def write(self, name: str, boot: Boot) -> None:
        """At the disk's cache at once, so that a killed process loses nothing."""
        self._file.write(self._line(name, boot))

    @staticmethod
    def _line(name: str, boot: Boot) -> str:
        return json.dumps([name, asdict(boot)]) + "\n"


def make_app(companion: Companion) -> web.Application:
    """The one door: PUT / of the emulator."""
    app = web.Application()
    app.router.add_put("/", companion.hear)
    app.on_startup.append(companion.start)
    app.on_shutdown.append(companion.stop)
    return app


def main() -> None:
    """Environment: MUSTER_HOME, MUSTER_URL."""
    logging.basicConfig(
        level=logging.INFO, format="{asctime} {levelname} {message}", style="{", stream=sys.stdout
    )
    logging.getLogger("aiohttp.access").setLevel(logging.WARNING)
    home = Home(Path(os.environ["MUSTER_HOME"]))
    fleet = load_fleet(home)
    if fleet is None:
        sys.exit("There is no emulated fleet in this MUSTER_HOME.")
    state_directory(home).mkdir(parents=True, exist_ok=True)
    asyncio.run(
        _serve(fleet, os.environ["MUSTER_URL"].rstrip("/"), state_directory(home) / "companion.jsonl")
    )


async def _serve(fleet: Fleet, url: str, memory: Path) -> None:
    runner = web.AppRunner(make_app(Companion(fleet, url, memory)))
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", fleet.companion_port).start()
        await stop.wait()
    finally:
        await runner.cleanup()


if __name__ == "__main__":
    main()
