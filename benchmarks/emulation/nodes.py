"""The nodes behind the BMCs: each one that is switched on fetches its boot script and reports its state.

It does what a real node does: firmware runs, `GET {muster}/apis/bss/boot/v1/bootscript?name=<xname>`, the
operating system starts with the kernel parameters of that script, and the reporter sends the token among
them back by `PATCH {muster}/apis/bos/v2/components/<xname>`, trying again until it is accepted. What it does
not do: the repeated reports of a node that stays up.
"""

from __future__ import annotations

import asyncio
import re
from collections import Counter

import aiohttp

from benchmarks.emulation.bmc import Bmc
from benchmarks.emulation.options import FleetOptions
from benchmarks.emulation.witness import WitnessLog

TOKEN = re.compile(r"bss_referral_token=([^\s\"']+)")
RETRY_LIMIT = 30.0


class Nodes:
    """All nodes of a fleet; waits are timers, requests a bounded number of workers."""

    def __init__(self, options: FleetOptions, log: WitnessLog) -> None:
        self._options = options
        self._log = log
        self._base = options.muster.rstrip("/")
        self._queue: asyncio.Queue[tuple[Bmc, int, str, int]] = asyncio.Queue()
        self._workers: list[asyncio.Task[None]] = []
        self._client: aiohttp.ClientSession | None = None
        # A boot counts only while the node has not been stopped since it began.
        self._boots: Counter[int] = Counter()
        self.stage: dict[int, str] = {}  # by index: starting, fetched, reported
        self.answers: Counter[str] = Counter()  # "script 200", "report 503", "report ClientConnectorError"

    async def start(self) -> None:
        """Begin to serve nodes that are switched on."""
        if self._base:
            self._client = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=self._options.node_requests, keepalive_timeout=30),
                timeout=aiohttp.ClientTimeout(total=30),
            )
            self._workers = [asyncio.create_task(self._work()) for _ in range(self._options.node_requests)]

    async def stop(self) -> None:
        """Cancel everything under way."""
        for worker in self._workers:
            worker.cancel()
        await asyncio.gather(*self._workers, return_exceptions=True)
        if self._client is not None:
            await self._client.close()

    def power_changed(self, bmc: Bmc, what: str) -> None:
        """Follow the node's power: `started` or `stopped`."""
        self._boots[bmc.index] += 1
        self.stage.pop(bmc.index, None)
        if what == "started" and self._base:
            self.stage[bmc.index] = "starting"
            wait = self._options.firmware_seconds.at(bmc.draw())
            self._later(wait, bmc, self._boots[bmc.index], "", 1)

    def _later(self, wait: float, bmc: Bmc, boot: int, token: str, attempt: int) -> None:
        asyncio.get_running_loop().call_later(wait, self._queue.put_nowait, (bmc, boot, token, attempt))

    async def _work(self) -> None:
        while True:
            bmc, boot, token, attempt = await self._queue.get()
            if boot != self._boots[bmc.index]:
                continue  # it has been switched off meanwhile
            try:
                found = await (self._report(bmc, token) if token else self._fetch(bmc))
            except (aiohttp.ClientError, TimeoutError) as problem:
                self.answers[f"{'report' if token else 'script'} {type(problem).__name__}"] += 1
                found = ""
            if boot != self._boots[bmc.index]:
                continue
            if not found:
                wait = min(RETRY_LIMIT, self._options.retry_seconds * attempt)
                self._later(wait, bmc, boot, token, attempt + 1)
            elif token:
                self.stage[bmc.index] = "reported"
            else:
                self.stage[bmc.index] = "fetched"
                self._later(self._options.boot_seconds.at(bmc.draw()), bmc, boot, found, 1)

    async def _fetch(self, bmc: Bmc) -> str:
        """The referral token of the node's boot script; "" where there is none yet."""
        assert self._client is not None
        headers = {"Authorization": f"Bearer {self._options.token}"} if self._options.token else {}
        url = f"{self._base}/apis/bss/boot/v1/bootscript"
        async with self._client.get(url, params={"name": bmc.xname}, headers=headers) as answer:
            script = await answer.text()
        found = TOKEN.search(script) if answer.status == 200 else None
        self.answers[f"script {answer.status}{'' if found else ' without a token'}"] += 1
        self._log.write(kind="script", bmc=bmc.xname, status=answer.status)
        return found[1] if found else ""

    async def _report(self, bmc: Bmc, token: str) -> str:
        """Report the booted state; the token again when it was accepted, otherwise ""."""
        assert self._client is not None
        url = f"{self._base}/apis/bos/v2/components/{bmc.xname}"
        body = {"id": bmc.xname, "actual_state": {"bss_token": token}}
        headers = {"Authorization": f"Bearer {token}"}
        async with self._client.patch(url, json=body, headers=headers) as answer:
            await answer.read()
        self.answers[f"report {answer.status}"] += 1
        self._log.write(kind="reported", bmc=bmc.xname, status=answer.status)
        return token if answer.ok else ""
