"""One emulated BMC with one System: its power, its boot override, and the Redfish resources that show them.

The documents are those of a BMC at the root of its address, whatever the way the fleet is addressed: links
and the Location of a task monitor start with /redfish/v1 and carry no prefix.
"""

from __future__ import annotations

import asyncio
import base64
import hmac
import json
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from benchmarks.emulation.options import Fault, FleetOptions, Span, draw, xname
from benchmarks.emulation.witness import DIRECTIONS, WitnessLog

BOOT_TARGETS = ("None", "Pxe", "Hdd", "Cd", "BiosSetup")
JSON_TYPE = b"Content-Type: application/json\r\n"


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer: `headers` are raw lines, each with its line end."""

    status: int
    body: bytes = b""
    headers: bytes = b""


def error(status: int, message_id: str, text: str, headers: bytes = b"") -> Reply:
    """An answer in Redfish's error format."""
    info = {"MessageId": f"Base.1.16.{message_id}", "Message": text, "Severity": "Warning"}
    document = {"error": {"code": info["MessageId"], "message": text, "@Message.ExtendedInfo": [info]}}
    return Reply(status, json.dumps(document).encode(), JSON_TYPE + headers)


def document(content: dict[str, Any], status: int = 200, headers: bytes = b"") -> Reply:
    """An answer with a JSON document."""
    return Reply(status, json.dumps(content).encode(), JSON_TYPE + headers)


class Bmc:
    """Power moves as On -> PoweringOff -> Off -> PoweringOn -> On; times are drawn from the fleet's seed."""

    __slots__ = (
        "_changed",
        "_log",
        "_options",
        "_pages",
        "_sessions",
        "_tasks",
        "_timer",
        "_turn",
        "boot",
        "fault",
        "index",
        "pending",
        "power",
        "revision",
        "xname",
    )

    def __init__(
        self,
        index: int,
        options: FleetOptions,
        log: WitnessLog,
        pages: Pages,
        changed: Callable[[Bmc, str], None],
    ) -> None:
        """`changed(bmc, "stopped" | "started")` is called when the node's operating system must follow."""
        self.index = index
        self.xname = xname(index)
        self.power = {"on": "On", "off": "Off"}.get(options.power, "Off" if index % 2 else "On")
        self.pending: str | None = None
        self.boot = {"enabled": "Disabled", "target": "None", "uri": ""}
        self.fault: Fault | None = None
        self.revision = 1
        self._turn = 0
        self._options = options
        self._log = log
        self._pages = pages
        self._changed = changed
        self._timer: asyncio.TimerHandle | None = None
        self._sessions: dict[str, str] = {}
        self._tasks = 0

    def draw(self) -> float:
        """The next number from 0 to 1 of this BMC's own sequence."""
        self._turn += 1
        return draw(self._options.seed, self.index, self._turn)

    def etag(self) -> str:
        """The System's current ETag."""
        return f'"{self.revision}"'

    # What is asked over HTTP

    def answer(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> Reply:
        """Carry one request out."""
        path = path.rstrip("/")
        if path in ("/redfish", "/redfish/v1"):
            return Reply(200, self._pages.open[path], JSON_TYPE) if method == "GET" else _not_allowed("GET")
        if self._options.auth != "none":
            login = method == "POST" and path == Pages.SESSIONS
            if not login and not self._authorised(headers):
                return unauthorised()
        if path == self._pages.system:
            if method == "GET":
                return self._show_system()
            return self._patch_system(headers, body) if method == "PATCH" else _not_allowed("GET, PATCH")
        if path == self._pages.reset:
            return self._reset(body) if method == "POST" else _not_allowed("POST")
        if path in self._pages.guarded:
            return (
                Reply(200, self._pages.guarded[path], JSON_TYPE) if method == "GET" else _not_allowed("GET")
            )
        if path.startswith(Pages.SESSIONS):
            return self._login(method, path, body)
        if path.startswith(Pages.MONITORS) and method == "GET":
            return self._monitor(path)
        return error(404, "ResourceMissingAtURI", "The resource was not found.")

    def is_change(self, method: str, path: str) -> bool:
        """Whether a request belongs into the witness log."""
        path = path.rstrip("/")
        return (method == "POST" and path == self._pages.reset) or (
            method == "PATCH" and path == self._pages.system
        )

    def _authorised(self, headers: Mapping[str, str]) -> bool:
        if headers.get("x-auth-token") in self._sessions:
            return True
        scheme, _, credentials = headers.get("authorization", "").partition(" ")
        if self._options.auth != "basic" or scheme.lower() != "basic":
            return False
        return hmac.compare_digest(credentials.encode(), self._pages.basic)

    def _show_system(self) -> Reply:
        etag = f"ETag: {self.etag()}\r\n".encode() if self._options.etag != "none" else b""
        power = self.power
        if self._options.plain_states and power.startswith("Powering"):
            power = {"PoweringOn": "Off", "PoweringOff": "On"}[power]
        body = self._pages.show_system(self, power)
        return Reply(200, body, JSON_TYPE + etag)

    def _patch_system(self, headers: Mapping[str, str], body: bytes) -> Reply:
        if self._options.etag == "required" and "if-match" not in headers:
            return error(428, "PreconditionRequired", "An If-Match header is required.")
        if self._options.etag != "none" and headers.get("if-match", "*") not in ("*", self.etag()):
            return error(412, "PreconditionFailed", "The ETag does not match.")
        content = _object(body)
        boot = content.get("Boot") if content and set(content) == {"Boot"} else None
        if not isinstance(boot, dict):
            return error(400, "PropertyUnknown", "Only Boot can be changed.")
        refusal = self._pages.refuse_boot(boot)
        if refusal:
            return error(400, "PropertyValueNotInList", refusal)
        self.boot["enabled"] = boot.get("BootSourceOverrideEnabled", self.boot["enabled"])
        self.boot["target"] = boot.get("BootSourceOverrideTarget", self.boot["target"])
        self.boot["uri"] = boot.get("HttpBootUri", self.boot["uri"])
        self.revision += 1
        return Reply(204)

    def _reset(self, body: bytes) -> Reply:
        content = _object(body)
        kind = str(content.get("ResetType")) if content else ""
        if kind not in self._options.reset_types:
            return error(400, "ActionParameterValueNotInList", "The reset type is not supported.")
        if not self.order(kind):
            return error(409, "ResourceInUse", "The node is not in a state to do so.")
        if self._options.monitor:
            self._tasks += 1
            place = f"Location: {Pages.MONITORS}/{self._tasks}\r\nRetry-After: 1\r\n".encode()
            return Reply(202, b"", place)
        return Reply(204)

    def _login(self, method: str, path: str, body: bytes) -> Reply:
        if method == "DELETE":
            token = next((token for token, place in self._sessions.items() if place == path), None)
            if token is None:
                return error(404, "ResourceMissingAtURI", "The session was not found.")
            del self._sessions[token]
            return Reply(204)
        if method != "POST" or path != Pages.SESSIONS:
            return _not_allowed("POST, DELETE")
        content = _object(body) or {}
        given = f"{content.get('UserName')}:{content.get('Password')}".encode()
        if not hmac.compare_digest(base64.b64encode(given), self._pages.basic):
            return unauthorised()
        if len(self._sessions) >= self._options.session_limit:
            return error(503, "SessionLimitExceeded", "The maximum number of user sessions is reached.")
        token, place = secrets.token_urlsafe(16), f"{Pages.SESSIONS}/{secrets.token_hex(4)}"
        self._sessions[token] = place
        return document({"@odata.id": place}, 201, f"X-Auth-Token: {token}\r\nLocation: {place}\r\n".encode())

    def _monitor(self, path: str) -> Reply:
        number = path.removeprefix(Pages.MONITORS + "/")
        if not number.isdigit() or not 1 <= int(number) <= self._tasks:
            return error(404, "ResourceMissingAtURI", "The task was not found.")
        return Reply(202, b"", b"Retry-After: 1\r\n") if self.pending else Reply(204)

    # What happens to the node

    def order(self, kind: str) -> bool:
        """Take a reset; False where the node's state forbids it (the caller answers 409).

        A forced off is always taken, as it cuts the current; any other direction than that of a change
        under way is refused until the node has settled.
        """
        direction = DIRECTIONS[kind]
        target = "Off" if direction == "off" else "On"
        if self.fault is Fault.STUCK or (self.fault is Fault.DEAF and kind == "GracefulShutdown"):
            return True
        if self.pending == direction and kind != "ForceOff":
            return not self._options.strict
        if self.pending not in (None, direction) and kind != "ForceOff":
            return False
        if direction == "restart" and self.power != "On":
            return False
        if self.power == target and self.pending is None and direction != "restart":
            return not self._options.strict
        self._begin(direction, self._span(kind))
        return True

    def _span(self, kind: str) -> Span:
        options = self._options
        spans = {"On": options.on_seconds, "GracefulShutdown": options.graceful_seconds}
        return spans.get(kind, options.off_seconds if kind == "ForceOff" else options.on_seconds)

    def _begin(self, direction: str, span: Span) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self.pending = direction
        self.power = "PoweringOff" if direction == "off" else "PoweringOn"
        self.revision += 1
        if direction != "on":
            self._changed(self, "stopped")
        self._timer = asyncio.get_running_loop().call_later(span.at(self.draw()), self._settle)

    def _settle(self) -> None:
        before = self.power
        self.power = "Off" if self.pending == "off" else "On"
        self.pending = self._timer = None
        self.revision += 1
        if self.power == "On" and self.boot["enabled"] == "Once":
            self.boot = {"enabled": "Disabled", "target": "None", "uri": ""}
        self._log.write(kind="settled", bmc=self.xname, before=before, after=self.power)
        if self.power == "On":
            self._changed(self, "started")

    def close(self) -> None:
        """Stop the power change under way, when the fleet goes down."""
        if self._timer is not None:
            self._timer.cancel()


class Pages:
    """What all BMCs of a fleet answer alike, rendered once."""

    SESSIONS = "/redfish/v1/SessionService/Sessions"
    MONITORS = "/redfish/v1/TaskService/TaskMonitors"

    def __init__(self, options: FleetOptions) -> None:
        self._options = options
        self.system = f"/redfish/v1/Systems/{options.system}"
        self.reset = f"{self.system}/Actions/ComputerSystem.Reset"
        self.basic = base64.b64encode(f"{options.user}:{options.password}".encode())
        self.targets = BOOT_TARGETS + (("UefiHttp",) if options.http_boot else ())
        link = {"@odata.id": "/redfish/v1/Systems"}
        root = {
            "@odata.id": "/redfish/v1/",
            "@odata.type": "#ServiceRoot.v1_15_0.ServiceRoot",
            "Id": "RootService",
            "Name": "Emulated BMC",
            "RedfishVersion": "1.15.0",
            "Systems": link,
            "Links": {"Sessions": {"@odata.id": self.SESSIONS}},
        }
        members = {**link, "Members": [{"@odata.id": self.system}], "Members@odata.count": 1}
        info = {
            "@odata.id": f"{self.system}/ResetActionInfo",
            "Id": "ResetActionInfo",
            "Parameters": [
                {"Name": "ResetType", "Required": True, "AllowableValues": list(options.reset_types)}
            ],
        }
        self.open = {"/redfish": b'{"v1": "/redfish/v1/"}', "/redfish/v1": _dump(root)}
        self.guarded = {link["@odata.id"]: _dump(members)}
        if options.action_info:
            self.guarded[info["@odata.id"]] = _dump(info)
        self._system = self._system_template(info["@odata.id"])

    def show_system(self, bmc: Bmc, power: str) -> bytes:
        """The System document of one BMC. One substitution: building it anew took half of a request."""
        boot = bmc.boot
        return self._system % {
            b"name": bmc.xname.encode(),
            b"uuid": b"00000000-0000-4000-8000-%012d" % bmc.index,
            b"power": power.encode(),
            b"enabled": boot["enabled"].encode(),
            b"target": boot["target"].encode(),
            b"uri": json.dumps(boot["uri"]).encode(),
        }

    def refuse_boot(self, boot: dict[str, Any]) -> str:
        """Why a boot override cannot be taken; "" when it can."""
        known = {
            "BootSourceOverrideEnabled": ("Disabled", "Once", "Continuous"),
            "BootSourceOverrideTarget": self.targets,
            "BootSourceOverrideMode": ("UEFI", "Legacy"),
        }
        for name, value in boot.items():
            if name == "HttpBootUri" and self._options.http_boot and isinstance(value, str):
                continue
            if name not in known or value not in known[name]:
                return f"{name} does not exist or does not take this value."
        return ""

    def _system_template(self, action_info: str) -> bytes:
        action: dict[str, Any] = {"target": self.reset}
        if self._options.action_info:
            action["@Redfish.ActionInfo"] = action_info
        else:
            action["ResetType@Redfish.AllowableValues"] = list(self._options.reset_types)
        boot: dict[str, Any] = {
            "BootSourceOverrideEnabled": "%(enabled)s",
            "BootSourceOverrideTarget": "%(target)s",
            "BootSourceOverrideTarget@Redfish.AllowableValues": list(self.targets),
            "BootSourceOverrideMode": "UEFI",
            "BootSourceOverrideMode@Redfish.AllowableValues": ["UEFI", "Legacy"],
        }
        if self._options.http_boot:
            boot["HttpBootUri"] = "%(uri)s"
        system = {
            "@odata.id": self.system,
            "@odata.type": "#ComputerSystem.v1_20_0.ComputerSystem",
            "Id": self._options.system,
            "Name": "%(name)s",
            "UUID": "%(uuid)s",
            "SystemType": "Physical",
            "Status": {"State": "Enabled", "Health": "OK", "HealthRollup": "OK"},
            "PowerState": "%(power)s",
            "Boot": boot,
            "Actions": {"#ComputerSystem.Reset": action},
        }
        return _dump(system).replace(b'"%(uri)s"', b"%(uri)s")  # the URI brings its quotes


def unauthorised() -> Reply:
    """401, as for a wrong password."""
    return error(
        401, "NoValidSession", "Authentication is required.", b'WWW-Authenticate: Basic realm="bmc"\r\n'
    )


def _not_allowed(allowed: str) -> Reply:
    return error(405, "OperationNotAllowed", "Not allowed here.", f"Allow: {allowed}\r\n".encode())


def _object(body: bytes) -> dict[str, Any] | None:
    try:
        content = json.loads(body)
    except ValueError:
        return None
    return content if isinstance(content, dict) else None


def _dump(content: dict[str, Any]) -> bytes:
    return json.dumps(content).encode()
