"""One request to one of a service's replicas."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

import aiohttp
from django.conf import settings

from workflows_app.gateway.routes import Routes
from workflows_app.gateway.wire import GAP_SECONDS, LOOK_AGAIN, passing_headers


class NoReplica(Exception):
    """No replica of the service could be reached; nothing was sent to any."""


class NotConnected(Exception):
    """One replica could not be connected to."""


class Broken(Exception):
    """The request was sent and no answer came: whether it was acted on, nobody knows."""


class TooLarge(Exception):
    """The answer is larger than this service takes."""


@dataclass(frozen=True)
class Question:
    """A request to be forwarded."""

    workflow_id: str
    service: str
    method: str
    path: str  # with the query
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    seconds: float = 60


@dataclass(frozen=True)
class Answer:
    """What a service answered."""

    status: int
    headers: Mapping[str, str]
    body: bytes


async def forward(session: aiohttp.ClientSession, routes: Routes, question: Question) -> Answer:
    """The answer of one replica.

    A replica that can't be connected to is passed over for the next; once a request was sent it is never
    sent again. Raises NoReplica, Broken, TooLarge, TimeoutError.
    """
    give_up = time.monotonic() + min(GAP_SECONDS, question.seconds)
    end = time.monotonic() + question.seconds
    while True:
        tried: set[str] = set()
        # Asked for each time: the address of a pod that is gone refuses nothing, it is silent for as long as
        # we wait, and meanwhile the routes have changed.
        while address := routes.best(question.workflow_id, question.service, tried):
            tried.add(address)
            routes.busy[address] += 1
            try:
                return await _ask(session, address, question, max(0.1, end - time.monotonic()))
            except NotConnected:
                routes.avoid(address)
            finally:
                routes.busy[address] -= 1
                if routes.busy[address] <= 0:
                    del routes.busy[address]
        if time.monotonic() >= give_up:
            raise NoReplica
        await asyncio.sleep(LOOK_AGAIN)


async def _ask(session: aiohttp.ClientSession, address: str, question: Question, seconds: float) -> Answer:
    limit = settings.MUSTER_RUN_BODY_BYTES
    timeout = aiohttp.ClientTimeout(total=seconds, sock_connect=2)
    try:
        async with session.request(
            question.method,
            f"{address}{question.path}",
            data=question.body or None,
            headers=dict(question.headers),
            timeout=timeout,
            allow_redirects=False,
            skip_auto_headers=("User-Agent", "Content-Type"),
        ) as response:
            body = bytearray()
            async for chunk in response.content.iter_chunked(65536):
                body += chunk
                if len(body) > limit:
                    raise TooLarge
            return Answer(response.status, passing_headers(response.headers.items()), bytes(body))
    except (aiohttp.ConnectionTimeoutError, aiohttp.ClientConnectorError):
        raise NotConnected from None
    except TimeoutError:
        raise
    except (aiohttp.ClientError, ConnectionError) as error:
        raise Broken(str(error) or type(error).__name__) from None


def make_session() -> aiohttp.ClientSession:
    """A connection for each request: one that is kept may be closed by a replica just when it is used."""
    connector = aiohttp.TCPConnector(limit=0, force_close=True)
    jar = aiohttp.DummyCookieJar()
    return aiohttp.ClientSession(connector=connector, auto_decompress=False, cookie_jar=jar)
