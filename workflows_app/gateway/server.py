"""The gateway: an HTTP server that takes requests to the services of published workflows.

POST /run/WORKFLOW                  from the web process, which has asked who it is
ANY  /stream/TOKEN/SERVICE/PATH     from one service to another of the same workflow
GET  /healthz
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import logging
import uuid
from typing import Any

import aiohttp
from aiohttp import web
from asgiref.sync import sync_to_async
from django.conf import settings
from django.db import DatabaseError, close_old_connections, connections
from django.utils import timezone

from workflows_app.gateway.delivery import Deliveries
from workflows_app.gateway.forwarding import Broken, NoReplica, Question, TooLarge, forward, make_session
from workflows_app.gateway.routes import Route, Routes
from workflows_app.gateway.wire import (
    GAP_SECONDS,
    LOOK_AGAIN,
    NO_REPLICA,
    PASS_HEADER,
    gateway_pass,
    passing_headers,
)
from workflows_app.models import Gateway

log = logging.getLogger(__name__)

LOOK_EVERY = 0.3  # seconds between looks at the routes and the queue
SEEN_EVERY = 1.0
LAST_SECONDS = 3.0  # for what is under way when the gateway is told to stop


class GatewayServer:
    """One gateway process."""

    def __init__(self, *, host: str, port: int, url: str, name: str, shared: bool = False) -> None:
        """`shared`: others may listen at the same place; each connection is given to one of those alive."""
        self._host, self._port, self._url, self._name = host, port, url, name
        self._shared = shared
        self._id = uuid.uuid4()
        self.routes = Routes()
        self._session: aiohttp.ClientSession | None = None

    async def run(self, stop: asyncio.Event) -> None:
        """Serve until `stop`. Raises OSError where the port is taken."""
        runner = web.AppRunner(self._application(), access_log=None, shutdown_timeout=LAST_SECONDS)
        await runner.setup()
        site = web.TCPSite(runner, self._host, self._port, reuse_port=self._shared or None)
        try:
            # What comes with the first connection finds its way already.
            await self._in_database(self.routes.load)
            self._session = make_session()
            await site.start()
            deliveries = Deliveries(self._session, self.routes)
            await self._work(stop, deliveries)
            # Off the stream first: nobody sends here any more while the last requests end.
            await self._in_database(Gateway.objects.filter(pk=self._id).delete)
            await deliveries.finish(LAST_SECONDS)
        finally:
            await runner.cleanup()
            if self._session is not None:
                await self._session.close()
            await sync_to_async(connections.close_all)()

    def _application(self) -> web.Application:
        application = web.Application(client_max_size=settings.MUSTER_RUN_BODY_BYTES)
        application.router.add_get("/healthz", self._healthz)
        application.router.add_post("/run/{workflow}", self._run)
        application.router.add_route("*", "/stream/{token}/{service}{path:(/.*)?}", self._pass)
        return application

    async def _work(self, stop: asyncio.Event, deliveries: Deliveries) -> None:
        seen_at = 0.0
        clock = asyncio.get_running_loop().time
        while not stop.is_set():
            if await self._in_database(self.routes.follow):
                if clock() - seen_at >= SEEN_EVERY and await self._in_database(self._note_seen):
                    seen_at = clock()
                with contextlib.suppress(DatabaseError):
                    await deliveries.look()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), LOOK_EVERY)

    async def _in_database(self, do: Any) -> bool:
        """Whether it was done; without a database the routes stay as they were and requests still pass."""

        def attempt() -> bool:
            try:
                close_old_connections()
                do()
            except DatabaseError as error:
                log.warning("The database does not answer: %s", error)
                return False
            return True

        return await sync_to_async(attempt)()

    def _note_seen(self) -> None:
        seen = {"url": self._url, "host": self._name, "seen_at": timezone.now()}
        if not Gateway.objects.filter(pk=self._id).update(**seen):
            Gateway.objects.create(pk=self._id, **seen)

    # -- requests -------------------------------------------------------------------------------------

    async def _healthz(self, request: web.Request) -> web.Response:
        return web.json_response({"status": "alive", "workflows": len(self.routes.by_workflow)})

    async def _run(self, request: web.Request) -> web.Response:
        if not hmac.compare_digest(request.headers.get(PASS_HEADER, ""), gateway_pass()):
            return _refusal(403, "Requests to workflows are taken by the web process.")
        route = await self._route(request.match_info["workflow"])
        if route is None or not route.entry:
            return _nobody()
        return await self._forward(
            request, route.workflow_id, route.entry, route.entry_path, route.request_seconds
        )

    async def _route(self, workflow_id: str) -> Route | None:
        """The web process says that it is usable: what is not known yet is known with the next look."""
        clock = asyncio.get_running_loop().time
        give_up = clock() + GAP_SECONDS
        while (route := self.routes.by_workflow.get(workflow_id)) is None and clock() < give_up:
            await asyncio.sleep(LOOK_AGAIN)
        return route

    async def _pass(self, request: web.Request) -> web.Response:
        route = self.routes.by_token.get(request.match_info["token"])
        if route is None:
            return _refusal(404, "There is no such stream.")
        # The path goes on as it came, with its escapes.
        path = "/" + request.rel_url.raw_path.split("/", 4)[4] if request.match_info["path"] else "/"
        service = request.match_info["service"]
        return await self._forward(request, route.workflow_id, service, path, route.request_seconds)

    async def _forward(
        self, request: web.Request, workflow_id: str, service: str, path: str, seconds: float
    ) -> web.Response:
        assert self._session is not None  # noqa: S101  (made before the first request)
        try:
            body = await request.read()
        except web.HTTPRequestEntityTooLarge:
            return _refusal(413, "The request is larger than this service takes.")
        query = request.rel_url.raw_query_string
        question = Question(
            workflow_id=workflow_id,
            service=service,
            method=request.method,
            path=f"{path}{'?' + query if query else ''}",
            headers=passing_headers(request.headers.items()),
            body=body,
            seconds=seconds,
        )
        try:
            answer = await forward(self._session, self.routes, question)
        except NoReplica:
            return _nobody()
        except Broken as error:
            return _refusal(502, f"The connection to the service broke: {error}.")
        except TooLarge:
            return _refusal(502, "The service's answer is too large.")
        except TimeoutError:
            return _refusal(504, f"The service did not answer within {seconds:g} s.")
        return web.Response(status=answer.status, headers=dict(answer.headers), body=answer.body)


def _refusal(status: int, detail: str, **headers: str) -> web.Response:
    body = {"type": "about:blank", "title": "Gateway", "status": status, "detail": detail}
    return web.json_response(
        body, status=status, content_type="application/problem+json", headers=headers or None
    )


def _nobody() -> web.Response:
    return _refusal(503, "No instance of the service could be reached.", **{NO_REPLICA: "1"})
