"""IPMI over LAN, for BMCs without Redfish, by the `ipmitool` program.

A process per request: fine for a few hundred old BMCs, not for ten thousand. The password goes to ipmitool in
its environment, which only its own user can read, never on its command line, which everybody can.
"""

from __future__ import annotations

import asyncio
import os
import re
import time
from contextlib import suppress
from urllib.parse import urlsplit

from .base import VAULT_PATH, Action, Power, PowerError, Reason, Result, Setting, Target
from .bounded import BOOT_SOURCE_LATE, BoundedDriver, TooLateError

PORT = 623
# Two tries of a second for each step of the handshake: a lost packet is made good, a dead BMC known in 6 s.
# Without -v ipmitool does not tell a wrong password from a dead BMC.
TRIES = ("-v", "-N", "1", "-R", "2")
COMMANDS = {
    Action.ON: ("chassis", "power", "on"),
    Action.OFF_GRACEFUL: ("chassis", "power", "soft"),
    Action.OFF_FORCED: ("chassis", "power", "off"),
    Action.LOCATE: ("chassis", "identify", "force"),  # until it is put out; by itself it is lit for 15 s
    Action.UNLOCATE: ("chassis", "identify", "0"),
}
STATE_COMMAND = ("chassis", "power", "status")
# ipmitool repeats a request by itself, so a change is only begun with this much time left for it.
MARGIN_SECONDS = 1.0

_STATE = re.compile(r"Chassis Power is (on|off)", re.IGNORECASE)
# The first that occurs in ipmitool's words tells the fault. An unknown user makes some BMCs fall silent
# after the session was opened ("no response from RAKP 1"), others say so.
_FAULTS: tuple[tuple[str, Reason, str], ...] = (
    (r"longer than \d+ bytes", Reason.SETTINGS, "The password is too long for IPMI"),
    (r"insufficient resources", Reason.BUSY, "BMC has no free session"),
    (
        r"HMAC is invalid|unauthorized name|no response from RAKP 1|invalid role|Insufficient privilege",
        Reason.UNAUTHORISED,
        "BMC refused the credentials",
    ),
    (r"failed: .*(Node busy|Timeout)", Reason.BUSY, "BMC is busy"),
    (r"failed: .*(not supported in present state|Destination unavailable)", Reason.BUSY, "BMC is not ready"),
    (
        r"failed: .*(Invalid command|not supported|Invalid data field)",
        Reason.UNSUPPORTED,
        "BMC does not support this",
    ),
    (r"Unable to establish|Address lookup|No response", Reason.UNREACHABLE, "BMC does not answer"),
)


class IpmiDriver(BoundedDriver):
    """Chassis power and the one-time boot device of IPMI 2.0."""

    kind = "ipmi"
    label = "IPMI"
    settings = (
        Setting("username", "User name", required=True),
        Setting("password", "Password", required=True, secret=True),
        VAULT_PATH,
        Setting("privilege", "Privilege", default="OPERATOR", choices=("OPERATOR", "ADMINISTRATOR")),
        Setting("cipher_suite", "Cipher suite", int, help="17 or 3; agreed with the BMC when left out."),
        Setting(
            "boot_override",
            "Boot override",
            default="once",
            choices=("once", "never"),
            help="Never: for nodes whose boot order is fixed.",
        ),
        Setting("boot_mode", "Boot mode", default="UEFI", choices=("UEFI", "Legacy")),
    )

    def __init__(self, *, in_flight: int = 32) -> None:
        """See BoundedDriver. Each action is a process, so far fewer at once than elsewhere."""
        super().__init__(in_flight=in_flight)

    async def act(self, target: Target, begin_by: float) -> Result:
        """See BoundedDriver.act."""
        if target.action is Action.STATE:
            found = _STATE.search(await _ipmitool(target, STATE_COMMAND))
            if not found:
                raise PowerError(Reason.REFUSED, "BMC tells no power state")
            return Result(target.key, ok=True, power=Power(found[1].lower()))
        if target.action is Action.ON and target.boot and target.settings.get("boot_override") != "never":
            if target.boot.target != "Pxe":
                raise PowerError(Reason.UNSUPPORTED, f"BMC does not support {target.boot.target} boot")
            uefi = target.settings.get("boot_mode", "UEFI") == "UEFI"
            options = ("options=efiboot",) if uefi else ()
            try:
                async with asyncio.timeout(target.boot.seconds or None):
                    await _change(target, ("chassis", "bootdev", "pxe", *options), begin_by)
            except TimeoutError:
                raise PowerError(Reason.TIMED_OUT, BOOT_SOURCE_LATE) from None
        await _change(target, COMMANDS[target.action], begin_by)
        return Result(target.key, ok=True)


async def _change(target: Target, command: tuple[str, ...], begin_by: float) -> None:
    """Run a changing command; ended at `begin_by`, so that no repetition of it is sent afterwards."""
    remaining = begin_by - time.monotonic()
    if remaining < MARGIN_SECONDS:
        raise TooLateError
    try:
        async with asyncio.timeout(remaining):
            await _ipmitool(target, command)
    except TimeoutError:
        raise PowerError(Reason.TIMED_OUT, "BMC did not answer in time") from None


async def _ipmitool(target: Target, command: tuple[str, ...]) -> str:
    """Run ipmitool and return what it says. Raises PowerError where it fails."""
    host, port = _host_and_port(target.address)
    settings = target.settings
    suite = settings.get("cipher_suite")
    arguments = [
        *("-I", "lanplus", "-H", host, "-p", str(port), "-U", str(settings.get("username", "")), "-E"),
        *("-L", str(settings.get("privilege", "OPERATOR")), *TRIES),
        *(("-C", str(suite)) if suite else ()),
    ]
    environment = {
        "IPMI_PASSWORD": str(target.secrets.get("password") or ""),
        "PATH": os.environ.get("PATH", os.defpath),
        "LC_ALL": "C",
    }
    try:
        process = await asyncio.create_subprocess_exec(
            "ipmitool",
            *arguments,
            *command,
            env=environment,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
    except FileNotFoundError:
        raise PowerError(Reason.SETTINGS, "ipmitool is not installed beside the worker") from None
    try:
        output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            with suppress(ProcessLookupError):
                process.kill()
    text = output.decode("utf-8", "replace")
    if process.returncode == 0:
        return text
    for pattern, reason, error in _FAULTS:
        if re.search(pattern, text, re.IGNORECASE):
            raise PowerError(reason, error)
    # ipmitool's own words may name the host or the user; they would not group either.
    raise PowerError(Reason.REFUSED, f"ipmitool ended with status {process.returncode}")


def _host_and_port(address: str) -> tuple[str, int]:
    """Parse `ipmi://10.1.0.7:623` or a bare host. Raises PowerError(SETTINGS)."""
    try:
        parts = urlsplit(address if "://" in address else f"ipmi://{address}")
        host, port = parts.hostname, parts.port or PORT
    except ValueError:
        host, port = None, PORT
        parts = urlsplit("")
    if not host or host.startswith("-") or parts.scheme != "ipmi" or "@" in parts.netloc or parts.path:
        raise PowerError(Reason.SETTINGS, "BMC's address is not ipmi://HOST[:PORT]")
    return host, port
