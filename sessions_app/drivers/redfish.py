"""Redfish over HTTP(S): power state, switching, one-time network boot, for thousands of BMCs at once.

The common BMC costs one GET per power state and PATCH plus POST per switching on: what a System offers is
remembered from the last time it was read. Vendors' habits are in redfish_documents.py.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from typing import Any
from urllib.parse import quote

from .base import VAULT_PATH, Action, BootSource, Power, PowerError, Reason, Result, Setting, Target
from .bmc_http import Answer, BmcHttp, local_path
from .bounded import BOOT_SOURCE_LATE, IN_FLIGHT, BoundedCache, BoundedDriver
from .redfish_documents import (
    GOALS,
    NOT_HOSTS,
    RESET_TYPES,
    TASK_FAILED,
    TASK_RUNNING,
    BootOffer,
    Capabilities,
    Led,
    NotOffered,
    at,
    boot_offer_of,
    capabilities_of,
    chassis_of,
    etag_of,
    led_of,
    lit_of,
    power_of,
    reset_types_of,
)
from .redfish_talk import Logins, Talk, retry_after

SYSTEMS = "/redfish/v1/Systems"
READING = "reading the system"
OVERRIDE = "the boot override"
CAPABILITIES_SECONDS = 600.0  # a firmware update may change them
TASK_SECONDS = 4.0  # how long a switch waits for the BMC's task; the power state tells the rest


class RedfishDriver(BoundedDriver):
    """Power by Redfish's ComputerSystem."""

    kind = "redfish"
    label = "Redfish"
    settings = (
        Setting("username", "User name", help="A BMC account that may switch power; emulators need none."),
        Setting("password", "Password", secret=True),
        VAULT_PATH,
        Setting("verify_tls", "Verify TLS", bool, default=True, help="Refuse untrusted certificates."),
        Setting("ca_file", "CA file", help="CA certificates for this BMC; the system's when left out."),
        Setting(
            "auth",
            "Authentication",
            default="basic",
            choices=("basic", "session"),
            help="Basic costs no extra request; sessions are few on most BMCs.",
        ),
        Setting("system", "System", help="Id or path; needed where the BMC has several systems."),
        Setting(
            "boot_source",
            "Boot source",
            default="Pxe",
            choices=("Pxe", "UefiHttp"),
            help="What the node boots from once: its network card's PXE, or HTTP by its firmware.",
        ),
        Setting("boot_url", "Boot URL", help="For UefiHttp: what the firmware loads, e.g. iPXE."),
        Setting(
            "boot_override",
            "Boot override",
            default="once",
            choices=("once", "never"),
            help="Never: for nodes whose boot order is fixed.",
        ),
        Setting(
            "boot_mode",
            "Boot mode",
            choices=("UEFI", "Legacy"),
            help="Sent with the boot override; only where a BMC needs it.",
        ),
    )

    def __init__(self, *, in_flight: int = IN_FLIGHT) -> None:
        """See BoundedDriver."""
        super().__init__(in_flight=in_flight)
        self._http = BmcHttp()
        self._logins = Logins()
        self._known: BoundedCache[tuple[str, str], Capabilities] = BoundedCache(20_000)

    async def aclose(self) -> None:
        """Log out of sessions, close connections."""
        await self._logins.aclose()
        await self._http.aclose()

    async def act(self, target: Target, begin_by: float) -> Result:
        """See BoundedDriver.act."""
        talk = Talk(self._http, self._logins, target, begin_by)
        path = await self._system_path(talk)
        if target.action is Action.STATE:
            answer = await self._read(talk, path)
            result = _result(target, answer.path, power_of(answer.document))
            return replace(result, lit=lit_of(answer.document))
        if target.action in (Action.LOCATE, Action.UNLOCATE):
            return await self._light(talk, await self._read(talk, path))
        known = self._known.recall((target.address, path))
        if known and time.monotonic() - known.read_at < CAPABILITIES_SECONDS:
            try:
                return await self._switch(talk, path, known, "")
            except NotOffered:
                self._known.pop((target.address, path), None)  # perhaps only out of date: read it again
        answer = await self._read(talk, path)
        power = power_of(answer.document)
        if power is (Power.ON if target.action is Action.ON else Power.OFF):
            return _result(target, answer.path, power)
        known = self._known[(target.address, answer.path)]
        return await self._switch(talk, answer.path, known, etag_of(answer))

    async def _system_path(self, talk: Talk) -> str:
        """Where this node's System is: as told, as set, or as the BMC's only one."""
        target = talk.target
        wanted = target.system or str(target.settings.get("system") or "")
        if wanted.startswith("/"):
            if not local_path(wanted):
                raise PowerError(Reason.SETTINGS, "The system's path is not a path")
            return wanted
        if wanted:
            return f"{SYSTEMS}/{quote(wanted, safe='')}"
        answer = await talk.get(SYSTEMS, "the list of systems")
        members = answer.document.get("Members")
        paths = (
            [local_path(at(one, "@odata.id")) for one in members if one] if isinstance(members, list) else []
        )
        hosts = [path for path in paths if not path.rpartition("/")[2].startswith(NOT_HOSTS)]
        if len(hosts) != 1 or not hosts[0]:
            count = "several systems" if hosts else "no system"
            raise PowerError(Reason.SETTINGS, f"BMC has {count}; name the node's in its settings")
        return hosts[0]

    async def _read(self, talk: Talk, path: str) -> Answer:
        """Read the System, and remember what it offers."""
        answer = await talk.get(path, READING)
        key = (talk.target.address, answer.path)
        now = time.monotonic()
        known = self._known.get(key)
        if known is None or now - known.read_at >= CAPABILITIES_SECONDS:
            self._known.keep(key, capabilities_of(answer.document, answer.path, now))
        return answer

    async def _switch(self, talk: Talk, path: str, known: Capabilities, etag: str) -> Result:
        """Set the boot source when one is wanted, then reset. `etag`: of the System, when just read."""
        target = talk.target
        reset_type = await self._reset_type(talk, known)
        boot = target.boot if target.settings.get("boot_override") != "never" else None
        if target.action is Action.ON and boot:
            try:
                async with asyncio.timeout(boot.seconds or None):
                    await self._override(talk, known, boot, etag)
            except TimeoutError:
                raise PowerError(Reason.TIMED_OUT, BOOT_SOURCE_LATE) from None
        answer = await talk.change("POST", known.reset_path, {"ResetType": reset_type})
        answer = await _finished(talk, answer)
        if answer.status < 300:
            return _result(target, path, Power.UNKNOWN)
        if answer.status in (400, 409):
            # Many BMCs refuse to do what is done already. Only the power state tells this from a refusal.
            system = await talk.get(path, READING)
            if system.document.get("PowerState") in GOALS[target.action]:
                return _result(target, path, power_of(system.document))
        raise talk.fault(answer, "Reset", reset_type)

    async def _light(self, talk: Talk, system: Answer) -> Result:
        """Switch the locate LED, of the System where it has one, else of its chassis."""
        target, lit = talk.target, talk.target.action is Action.LOCATE
        led, etag = led_of(system.document, system.path), etag_of(system)
        if led is None and (chassis := chassis_of(system.document)):
            answer = await talk.try_get(chassis)
            led, etag = led_of(answer.document, answer.path), etag_of(answer)
        if led is None:
            raise PowerError(Reason.UNSUPPORTED, "BMC has no locate LED")
        for body in led.bodies(lit=lit):
            answer = await _finished(talk, await _patch(talk, led, body, etag))
            if answer.status < 300:
                return _result(target, system.path, Power.UNKNOWN)
            if answer.status != 400:
                break
        raise talk.fault(answer, "the locate LED")

    async def _reset_type(self, talk: Talk, known: Capabilities) -> str:
        """The reset type for this action that the System allows; NotOffered where it allows none."""
        wanted = RESET_TYPES[talk.target.action]
        if known.reset_types is None and known.action_info:
            answer = await talk.try_get(known.action_info)
            known.reset_types = reset_types_of(answer.document)
            known.action_info = ""
        allowed = known.reset_types
        if allowed is None:
            return wanted[0]
        for reset_type in wanted:
            if reset_type in allowed:
                return reset_type
        raise NotOffered(Reason.UNSUPPORTED, f"BMC does not support {wanted[0]}")

    async def _override(self, talk: Talk, known: Capabilities, boot: BootSource, etag: str) -> None:
        """Set the one-time boot source. A BMC without any override boots in its fixed order, as it must."""
        if known.settings_path:
            answer = await talk.try_get(known.settings_path)
            pending = boot_offer_of(answer.document, answer.path) if answer.status == 200 else None
            if pending:
                known.boot, etag = pending, etag_of(answer)
            known.settings_path = ""
        offer = known.boot
        if offer is None:
            return
        if offer.targets is not None and boot.target not in offer.targets:
            raise NotOffered(Reason.UNSUPPORTED, f"BMC does not support {boot.target} boot")
        body = {"Boot": _boot_values(talk.target, known, offer, boot)}
        answer = await _finished(talk, await _patch(talk, offer, body, etag))
        if answer.status >= 300:
            raise talk.fault(answer, OVERRIDE, f"{boot.target} boot")


def _boot_values(target: Target, known: Capabilities, offer: BootOffer, boot: BootSource) -> dict[str, Any]:
    values = {"BootSourceOverrideEnabled": "Once", "BootSourceOverrideTarget": boot.target}
    mode = str(target.settings.get("boot_mode") or "")
    if known.full_boot:
        mode = mode or offer.mode or "UEFI"
    if mode and not known.no_boot_mode:
        values["BootSourceOverrideMode"] = mode
    if boot.url and offer.has_uri and boot.target == "UefiHttp":
        values["HttpBootUri"] = boot.url
    return values


async def _patch(talk: Talk, offer: BootOffer | Led, body: dict[str, Any], etag: str) -> Answer:
    """PATCH with the If-Match that this BMC takes: none, its ETag, the strong form of that, or none again."""
    if offer.wants_etag and not etag:
        etag = etag_of(await talk.try_get(offer.path))
    answer = await talk.change("PATCH", offer.path, body, etag=etag)
    if answer.status not in (412, 428):
        return answer
    fresh = etag_of(await talk.try_get(offer.path))
    for candidate in dict.fromkeys((fresh or "*", fresh.removeprefix("W/"), "")):
        answer = await talk.change("PATCH", offer.path, body, etag=candidate)
        if answer.status not in (412, 428):
            offer.wants_etag = bool(candidate)
            break
    return answer


async def _finished(talk: Talk, answer: Answer) -> Answer:
    """Follow a 202 to its task for a short time; the answer that the task ended with, or the 202."""
    until = time.monotonic() + TASK_SECONDS
    monitor = local_path(answer.headers.get("Location")) or local_path(answer.document.get("@odata.id"))
    running = answer.status == 202 and bool(monitor)
    while running:
        seconds = retry_after(answer, 1.0)
        if time.monotonic() + seconds > until:
            break
        await asyncio.sleep(seconds)
        last, answer = answer, await talk.try_get(monitor)
        if answer.status in (404, 410):  # gone together with the finished task
            return last
        state = answer.document.get("TaskState")
        if state in TASK_FAILED:
            return answer._replace(status=500)
        running = answer.status == 202 or (answer.status == 200 and state in TASK_RUNNING)
    return answer


def _result(target: Target, path: str, power: Power) -> Result:
    return Result(target.key, ok=True, power=power, system="" if path == target.system else path)
