"""One action's conversation with one BMC: credentials, redirects, short waits, and faults in plain words."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import time
from collections.abc import Mapping
from typing import Any

from .base import Action, PowerError, Reason, Target
from .bmc_http import Answer, BmcHttp, BrokenConnection, base_url, local_path, tls_context
from .bounded import BoundedCache, TooLateError, mask
from .redfish_documents import NotOffered, messages_of, readable, reason_of

SESSIONS = "/redfish/v1/SessionService/Sessions"
REDIRECTS = frozenset({301, 302, 303, 307, 308})
REQUEST_PART = 0.8  # of an action's time: what one request of it may take
RETRY_SECONDS = 1.0  # where a busy BMC names no time
RETRY_SECONDS_MOST = 2.0  # a longer wait is the engine's, which keeps no place occupied meanwhile


class Logins:
    """Session tokens by BMC and credentials. One per BMC, kept: BMCs allow only a handful of sessions."""

    def __init__(self) -> None:
        self.tokens: BoundedCache[str, tuple[str, str, Talk]] = BoundedCache(20_000)

    async def aclose(self) -> None:
        """Give the sessions back, as far as that is quickly done."""
        entries = list(self.tokens.values())
        self.tokens.clear()
        await asyncio.gather(
            *(talk.end_session(token, path) for token, path, talk in entries), return_exceptions=True
        )


class Talk:
    """Requests to one BMC on behalf of one Target; at most one at a time."""

    def __init__(self, http: BmcHttp, logins: Logins, target: Target, begin_by: float) -> None:
        """Raises PowerError(SETTINGS) where the BMC's address or CA file is unusable."""
        settings = target.settings
        self.target = target
        self._http = http
        self._logins = logins
        self._begin_by = begin_by
        self._base = base_url(target.address)
        self._tls = tls_context(
            verify=settings.get("verify_tls", True), ca_file=settings.get("ca_file") or ""
        )
        self._by_session = settings.get("auth") == "session"
        self._user = str(settings.get("username") or "")
        self._password = str(target.secrets.get("password") or "")
        self._waited = False

    async def get(self, path: str, what: str) -> Answer:
        """Read a resource, following redirects on this BMC. Raises PowerError unless it is there."""
        answer = await self.try_get(path)
        if answer.status != 200:
            raise self.fault(answer, what)
        if not answer.document:
            raise PowerError(Reason.REFUSED, f"BMC's answer to {what} is not a JSON object")
        return answer

    async def try_get(self, path: str) -> Answer:
        """Read a resource; any status but a redirect is returned."""
        for _ in range(3):
            answer = await self._exchange("GET", path, None, {})
            if answer.status not in REDIRECTS:
                return answer
            location = answer.headers.get("Location", "")
            scheme = self._base.origin.partition("://")[0]
            if "://" in location and location.partition("://")[0].lower() != scheme:
                raise PowerError(Reason.SETTINGS, "BMC redirects between http and https: correct its address")
            path = local_path(location)
            if not path:
                break
        raise PowerError(Reason.REFUSED, "BMC redirects without end")

    async def change(self, method: str, path: str, body: dict[str, Any], *, etag: str = "") -> Answer:
        """Send a changing request and return whatever is answered.

        Raises PowerError where no answer came, TooLateError once the time to begin has passed.
        """
        headers = {"Content-Type": "application/json"}
        if etag:
            headers["If-Match"] = etag
        return await self._exchange(method, path, json.dumps(body).encode(), headers)

    def fault(self, answer: Answer, what: str, wanted: str = "") -> PowerError:
        """The PowerError for an answer that is none we hoped for. `wanted`: the value that was asked for."""
        reason = reason_of(answer)
        if reason is Reason.UNAUTHORISED:
            denied = "denied the account this action" if answer.status == 403 else "refused the credentials"
            return PowerError(reason, f"BMC {denied}")
        if reason is Reason.UNSUPPORTED:
            return NotOffered(reason, f"BMC does not support {wanted or what}")
        text = next((text for _, text in messages_of(answer.document) if text), "")
        text = readable(mask(text, self.target), self._base.host, self.target.node)
        sentence = f"BMC answered {answer.status} to {what}" + (f": {text}" if text else "")
        return NotOffered(reason, sentence) if answer.status == 404 else PowerError(reason, sentence)

    async def end_session(self, token: str, path: str) -> None:
        """Delete the session of `token`."""
        await self._http.request("DELETE", self._base, path, tls=self._tls, headers={"X-Auth-Token": token})

    async def _exchange(
        self, method: str, path: str, body: bytes | None, headers: Mapping[str, str]
    ) -> Answer:
        """One request with credentials; once more after an expired session or a short "not now"."""
        if not path:
            raise PowerError(Reason.REFUSED, "BMC's documents lack a link that is needed")
        try:
            answer = await self._send(method, path, body, headers)
        except BrokenConnection:
            # A GET was repeated by aiohttp already. A POST may have acted: the engine looks at the power
            # state before it repeats one.
            if method != "PATCH":
                raise
            answer = await self._send(method, path, body, headers)
        if answer.status == 401 and self._by_session and self._logins.tokens.pop(self._login_key(), None):
            answer = await self._send(method, path, body, headers)
        if answer.status in (429, 503) and not self._waited:
            seconds = retry_after(answer, RETRY_SECONDS)
            in_time = method == "GET" or time.monotonic() + seconds < self._begin_by
            if seconds <= RETRY_SECONDS_MOST and in_time:
                self._waited = True
                await asyncio.sleep(seconds)
                answer = await self._send(method, path, body, headers)
        return answer

    async def _send(self, method: str, path: str, body: bytes | None, headers: Mapping[str, str]) -> Answer:
        credentials = await self._credentials()
        if method != "GET" and time.monotonic() > self._begin_by:
            raise TooLateError
        return await self._http.request(
            method,
            self._base,
            path,
            tls=self._tls,
            headers={**credentials, **headers},
            body=body,
            last=method == "POST" or self.target.action is Action.STATE,
            seconds=self.target.seconds * REQUEST_PART,
        )

    async def _credentials(self) -> dict[str, str]:
        if not self._user:
            return {}
        if not self._by_session:
            pair = base64.b64encode(f"{self._user}:{self._password}".encode()).decode()
            return {"Authorization": f"Basic {pair}"}
        known = self._logins.tokens.recall(self._login_key())
        token = known[0] if known else await self._log_in()
        return {"X-Auth-Token": token}

    async def _log_in(self) -> str:
        body = json.dumps({"UserName": self._user, "Password": self._password}).encode()
        headers = {"Content-Type": "application/json"}
        answer = await self._http.request(
            "POST",
            self._base,
            SESSIONS,
            tls=self._tls,
            headers=headers,
            body=body,
            seconds=self.target.seconds * REQUEST_PART,
        )
        token = answer.headers.get("X-Auth-Token", "")
        if answer.status not in (200, 201, 202) or not token:
            raise self.fault(answer, "the login")
        path = local_path(answer.headers.get("Location")) or local_path(answer.document.get("@odata.id"))
        self._logins.tokens.keep(self._login_key(), (token, path, self))
        return token

    def _login_key(self) -> str:
        """Changes with the credentials; a digest, so that no dump of the cache shows them."""
        text = "\0".join((self.target.address, self._user, self._password))
        return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def retry_after(answer: Answer, default: float) -> float:
    """Seconds that an answer asks to wait; dates, which no BMC was seen to send, count as `default`."""
    text = answer.headers.get("Retry-After", "")
    return float(text) if text.isdecimal() and len(text) < 6 else default
