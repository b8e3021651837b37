"""HTTP to very many BMCs from one event loop: one session, few TLS contexts, faults as PowerErrors.

Measured on the same responder: one urllib3 connection costs some 55 ms of CPU, because it loads the system's
CA certificates each time. So TLS contexts are made once here and shared by all connections.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import re
import resource
import ssl
import time
import zlib
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import aiohttp
from yarl import URL

from .base import PowerError, Reason

CONNECT_SECONDS = 3.0
CONNECT_TLS_SECONDS = 5.0  # with the handshake, for which old BMCs alone need two seconds
REQUEST_SECONDS = 8.0
# Long enough for an override and its reset, or for two polls. Few and short, because a kept TLS connection
# was measured at 80 to 115 kB: 2,400 of them made a process of 456 MB.
KEEP_ALIVE_SECONDS = 4.0
KEPT_MOST = {"http": 3_000, "https": 500}
TRIM_SECONDS = 10.0
ANSWER_BYTES_MOST = 4 << 20  # a Systems collection of 10,000 members has 1.3 MB
OPEN_FILES = 16_384

_PATH = re.compile(r"/[\x21-\x7e]*")
# TLS faults that no second try will mend; others are a BMC in the middle of something.
_TLS_PERMANENT = re.compile(
    r"CERTIFICATE|WRONG_VERSION|UNSUPPORTED_PROTOCOL|PROTOCOL_VERSION|HANDSHAKE_FAILURE|NO_SHARED_CIPHER"
    r"|KEY_TOO_SMALL|HTTP_REQUEST|UNKNOWN_CA"
)


class BrokenConnection(PowerError):
    """The connection broke before the whole answer was there: whether the BMC acted is not known."""

    def __init__(self) -> None:
        super().__init__(Reason.UNREACHABLE, "BMC closed the connection")


class Answer(NamedTuple):
    """What a BMC answered; `document` is {} where the body is not one JSON object."""

    status: int
    headers: Mapping[str, str]
    document: dict[str, Any]
    path: str  # where it was found, after redirects


class BmcHttp:
    """The HTTP client shared by all BMCs of an event loop. Make it inside that loop."""

    def __init__(self) -> None:
        _allow_open_files()
        # By scheme and origin: when its kept connection is gone; soonest first.
        self._kept: dict[str, dict[str, float]] = {scheme: {} for scheme in KEPT_MOST}
        self._trimmed_at = time.monotonic()
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=0,  # the driver bounds what is in flight
                keepalive_timeout=KEEP_ALIVE_SECONDS,
                ttl_dns_cache=300,
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={
                "Accept": "application/json",
                "Accept-Encoding": "gzip",
                "OData-Version": "4.0",
                "User-Agent": "Muster",
            },
            read_bufsize=8192,
            auto_decompress=False,  # it would unpack 200 MB out of 200 kB
        )

    async def request(
        self,
        method: str,
        base: BaseUrl,
        path: str,
        *,
        tls: ssl.SSLContext,
        headers: Mapping[str, str],
        body: bytes | None = None,
        last: bool = True,
        seconds: float = 0.0,
    ) -> Answer:
        """One request, no redirects followed. Raises PowerError where no whole answer came back within
        `seconds` (0: REQUEST_SECONDS).

        `last`: no other follows at once, so the connection may be closed where too many are kept.
        """
        fault: PowerError
        if last and not self._may_keep(base):
            headers = {**headers, "Connection": "close"}
        try:
            async with self._session.request(
                method,
                URL(base.of(path), encoded=True),
                headers=headers,
                data=body,
                ssl=tls,
                timeout=_timeout(base.scheme, seconds or REQUEST_SECONDS),
                allow_redirects=False,
            ) as response:
                content = await _read(response)
                return Answer(response.status, response.headers, _document(response.status, content), path)
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError, zlib.error) as error:
            # Not chained: an HTTP exception may carry the request's headers, and with them the password.
            fault = _fault(error)
        raise fault

    def _may_keep(self, base: BaseUrl) -> bool:
        """Whether the connection to this BMC may stay open after this request."""
        now = time.monotonic()
        if now - self._trimmed_at > TRIM_SECONDS:
            self._trimmed_at = now
            _trim_memory()
        # aiohttp looks for idle connections every KEEP_ALIVE_SECONDS, so some live twice as long.
        kept = self._kept[base.scheme]
        while kept and (eldest := next(iter(kept))) and kept[eldest] < now:
            del kept[eldest]
        known = kept.pop(base.origin, None)
        if known is None and len(kept) >= KEPT_MOST[base.scheme]:
            return False
        kept[base.origin] = now + 2 * KEEP_ALIVE_SECONDS
        return True

    async def aclose(self) -> None:
        """Close all connections."""
        await self._session.close()


@lru_cache(32)
def _timeout(scheme: str, seconds: float) -> aiohttp.ClientTimeout:
    connect = CONNECT_TLS_SECONDS if scheme == "https" else CONNECT_SECONDS
    return aiohttp.ClientTimeout(total=seconds, sock_connect=connect)


class BaseUrl(NamedTuple):
    """A BMC's address, taken apart. `prefix` is the path below which its /redfish/v1 lies, mostly ""."""

    scheme: str
    origin: str
    prefix: str
    host: str

    def of(self, path: str) -> str:
        """The URL of a resource, whether or not the BMC writes the prefix into its links."""
        if self.prefix and path.startswith(self.prefix + "/"):
            return self.origin + path
        return self.origin + self.prefix + path


@lru_cache(maxsize=20_000)
def base_url(address: str) -> BaseUrl:
    """Parse a BMC's address. Raises PowerError(SETTINGS) for what is no plain http(s) URL."""
    try:
        parts = urlsplit(address)
        port = parts.port
    except ValueError:
        parts, port = urlsplit(""), None
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise PowerError(Reason.SETTINGS, "BMC's address is not an http or https URL")
    if "@" in parts.netloc:
        raise PowerError(Reason.SETTINGS, "BMC's address must not contain credentials")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    prefix = parts.path.rstrip("/")
    if prefix and not _PATH.fullmatch(prefix):
        raise PowerError(Reason.SETTINGS, "BMC's address is not an http or https URL")
    origin = f"{parts.scheme}://{host}" + (f":{port}" if port else "")
    return BaseUrl(parts.scheme, origin, prefix, parts.hostname)


def local_path(reference: object) -> str:
    """The path of a link in a BMC's answer, or "" where it is none.

    The host of an absolute link is dropped: credentials go to the BMC's own address and nowhere else.
    """
    if not isinstance(reference, str):
        return ""
    path = reference.partition("#")[0]
    if "://" in path:
        path = "/" + path.partition("://")[2].partition("/")[2]
    return path if _PATH.fullmatch(path) and not path.startswith("//") else ""


def tls_context(*, verify: bool, ca_file: str = "") -> ssl.SSLContext:
    """The shared context for these settings. Raises PowerError(SETTINGS) for an unusable CA file."""
    if not verify:
        return _unverified()
    if not ca_file:
        return _verified_by_system()
    try:
        stat = os.stat(ca_file)
        return _verified_by_file(ca_file, stat.st_mtime_ns, stat.st_size)
    except (OSError, ValueError):  # ssl.SSLError is an OSError
        raise PowerError(Reason.SETTINGS, "The CA file for the BMC cannot be read") from None


@lru_cache(maxsize=1)
def _verified_by_system() -> ssl.SSLContext:
    return ssl.create_default_context()


@lru_cache(maxsize=64)
def _verified_by_file(path: str, changed: int, size: int) -> ssl.SSLContext:
    """`changed` and `size` are part of the key, so that a renewed CA file is read again."""
    context = ssl.create_default_context(cafile=path)
    # BMC vendors' own CAs seldom have the extensions that the strict mode of Python 3.13 asks for.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    return context


@lru_cache(maxsize=1)
def _unverified() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    # Old BMCs have 1,024-bit keys, which OpenSSL's default level refuses even when nothing is verified.
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    return context


async def _read(response: aiohttp.ClientResponse) -> bytes:
    """The body, unpacked, up to ANSWER_BYTES_MOST. Raises PowerError where it is longer."""
    packed = response.headers.get("Content-Encoding", "").lower() == "gzip"
    unpack = zlib.decompressobj(zlib.MAX_WBITS | 32) if packed else None
    chunks = []
    size = 0
    async for chunk in response.content.iter_any():
        if unpack is not None:
            chunk = unpack.decompress(chunk, ANSWER_BYTES_MOST + 1 - size)
        size += len(chunk)
        if size > ANSWER_BYTES_MOST:
            response.close()
            raise PowerError(Reason.REFUSED, "BMC's answer is too long")
        chunks.append(chunk)
    return b"".join(chunks)


def _document(status: int, content: bytes) -> dict[str, Any]:
    if not content:
        return {}
    try:
        document = json.loads(content)
    except (ValueError, RecursionError):
        # Some services answer errors as a bare sentence; a web server's HTML page says nothing more.
        text = content[:500].decode("utf-8", "replace").strip()
        return {"error": {"message": text}} if status >= 400 and not text.startswith("<") else {}
    return document if isinstance(document, dict) else {}


def _fault(error: Exception) -> PowerError:
    """Our words for what went wrong on the way; the exception's own text names addresses."""
    if isinstance(error, aiohttp.ConnectionTimeoutError):
        return PowerError(Reason.UNREACHABLE, "BMC does not answer")
    if isinstance(error, TimeoutError):
        return PowerError(Reason.TIMED_OUT, "BMC did not answer in time")
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return PowerError(Reason.TLS, "BMC's certificate is not trusted")
    if isinstance(error, aiohttp.ClientSSLError):
        if _TLS_PERMANENT.search(str(error.os_error)):
            return PowerError(Reason.TLS, "BMC and Muster cannot agree on TLS")
        return PowerError(Reason.UNREACHABLE, "BMC closed the connection during the TLS handshake")
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return PowerError(Reason.UNREACHABLE, "BMC's name does not resolve")
    if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE):
        return PowerError(Reason.INTERNAL, "Out of file descriptors (raise the worker's open files limit)")
    if isinstance(error, aiohttp.ClientConnectorError):
        return PowerError(Reason.UNREACHABLE, "BMC does not answer")
    if isinstance(error, aiohttp.ClientConnectionError | aiohttp.ClientPayloadError | OSError):
        return BrokenConnection()
    if isinstance(error, aiohttp.InvalidURL):
        return PowerError(Reason.SETTINGS, "BMC's address is not an http or https URL")
    return PowerError(Reason.REFUSED, "BMC's answer is not valid HTTP")


def _allow_open_files() -> None:
    """Let the process have as many sockets as it may: the usual soft limit of 1,024 is one busy second."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = OPEN_FILES if hard == resource.RLIM_INFINITY else min(OPEN_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


@lru_cache(maxsize=1)
def _malloc_trim() -> Callable[[int], int] | None:
    """The C library's malloc_trim, where it has one (glibc)."""
    trim: Callable[[int], int] | None = getattr(ctypes.CDLL(None), "malloc_trim", None)
    return trim


def _trim_memory() -> None:
    """Give freed memory back to the system.

    uvloop takes 256 kB per TLS connection; freed, they fragment glibc's heap. Measured over 12,000
    connections: without this a worker grew from 88 to 133 MB and on, with it it stayed at 75. It takes 2 ms.
    """
    if trim := _malloc_trim():
        trim(0)
