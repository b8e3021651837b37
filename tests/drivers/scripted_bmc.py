"""A small Redfish BMC that does what a test tells it, with every request kept as the witness.

It answers like a well-behaved BMC until a test scripts a reply for the next requests to one path.
"""

from __future__ import annotations

import asyncio
import datetime
import ipaddress
import json
import ssl
import threading
from collections import defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

SYSTEM = "/redfish/v1/Systems/1"
RESET = f"{SYSTEM}/Actions/ComputerSystem.Reset"
POWER_BY_RESET = {"On": "On", "ForceOn": "On", "ForceOff": "Off", "GracefulShutdown": "Off", "Off": "Off"}


@dataclass(frozen=True)
class Reply:
    """A scripted answer. `fault`: "hang" (no answer at all) or "reset" (the connection is cut)."""

    status: int = 200
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)
    fault: str = ""
    before: Callable[[], None] | None = None  # something that happens in the BMC first


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    headers: dict[str, str]
    body: Any


def refusal(status: int, identifier: str, text: str = "No.", **headers: str) -> Reply:
    """An error answer in Redfish's form."""
    info = [{"MessageId": f"Base.1.8.{identifier}", "Message": text}]
    body = {"error": {"code": "Base.1.8.GeneralError", "message": "See it.", "@Message.ExtendedInfo": info}}
    return Reply(status, body, headers)


class ScriptedBmc:
    """Use as a context manager; serves on a free port of 127.0.0.1 from a thread of its own."""

    def __init__(self, certificate: Path | None = None, systems: tuple[str, ...] = ("1",)) -> None:
        self.power = dict.fromkeys(systems, "Off")
        self.system: dict[str, Any] = {
            "Manufacturer": "Contoso",
            "Boot": {
                "BootSourceOverrideEnabled": "Disabled",
                "BootSourceOverrideTarget": "None",
                "BootSourceOverrideTarget@Redfish.AllowableValues": ["None", "Pxe", "Hdd", "UefiHttp"],
                "BootSourceOverrideMode": "UEFI",
            },
            "Actions": {
                "#ComputerSystem.Reset": {
                    "target": RESET,
                    "ResetType@Redfish.AllowableValues": ["On", "ForceOff", "GracefulShutdown"],
                }
            },
        }
        self.pages: dict[str, Any] = {}  # further resources, by path
        self.requests: list[Request] = []
        self.connections = 0
        self._scripts: defaultdict[tuple[str, str], deque[Reply]] = defaultdict(deque)
        self._certificate = certificate
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self.address = ""

    def script(self, method: str, path: str, *replies: Reply) -> None:
        """Answer the next requests of this kind with these replies, one each."""
        self._scripts[method, path].extend(replies)

    def asked(self) -> list[str]:
        """The requests so far, as `METHOD path`, without the System's long path."""
        return [
            f"{r.method} {r.path}".replace(RESET, "reset").replace(SYSTEM, "system") for r in self.requests
        ]

    def __enter__(self) -> ScriptedBmc:
        self._thread.start()
        assert self._ready.wait(30)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(30)

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._start())
        self._ready.set()
        self._loop.run_forever()
        tasks = asyncio.all_tasks(self._loop)
        for task in tasks:
            task.cancel()
        self._loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        self._loop.close()

    async def _start(self) -> None:
        context = None
        if self._certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(self._certificate)
        server = web.Server(self._handle)
        made: Any = server.__call__

        def count() -> Any:
            self.connections += 1
            return made()

        listener = await self._loop.create_server(count, "127.0.0.1", 0, ssl=context)
        port = listener.sockets[0].getsockname()[1]
        self.address = f"{'https' if context else 'http'}://127.0.0.1:{port}"

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        text = await request.text()
        body = json.loads(text) if text else None
        self.requests.append(Request(request.method, request.path, dict(request.headers), body))
        scripted = self._scripts[request.method, request.path]
        reply = scripted.popleft() if scripted else self._behave(request.method, request.path, body)
        if reply.before:
            reply.before()
        if reply.fault == "hang":
            await asyncio.Event().wait()
        if reply.fault == "reset":
            assert request.transport
            request.transport.abort()
        body = reply.body if isinstance(reply.body, str | bytes) else json.dumps(reply.body)
        content = body.encode() if isinstance(body, str) else body
        return web.Response(
            status=reply.status,
            headers=reply.headers,
            body=None if reply.body is None else content,
            content_type="application/json",
        )

    def _behave(self, method: str, path: str, body: Any) -> Reply:
        if path == "/redfish/v1/Systems":
            return Reply(body={"Members": [{"@odata.id": f"{path}/{name}"} for name in self.power]})
        name = path.removeprefix("/redfish/v1/Systems/").partition("/")[0]
        if name in self.power and path.endswith("/Actions/ComputerSystem.Reset"):
            self.power[name] = POWER_BY_RESET[body["ResetType"]]
            return Reply(204)
        if path in self.pages:
            return Reply(body=self.pages[path]) if method == "GET" else Reply(204)
        if name in self.power and path.endswith(f"/{name}"):
            return (
                Reply(body={**self.system, "PowerState": self.power[name]}) if method == "GET" else Reply(204)
            )
        return refusal(404, "ResourceMissingAtURI")


def make_certificate(path: Path) -> Path:
    """A self-signed certificate for 127.0.0.1 and its key, in one PEM file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "bmc")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(private + certificate.public_bytes(serialization.Encoding.PEM))
    return path
