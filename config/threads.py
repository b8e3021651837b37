"""Django behind ASGI, with threads that outlive a request.

Django gives each request a thread of its own there, and database connections belong to threads: so every
request would begin by connecting. To PostgreSQL that takes longer than most answers, and its first
statements are planned without anything remembered; SQLite reads the schema anew.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

from asgiref.sync import ThreadSensitiveContext
from django.core.handlers.asgi import ASGIHandler
from django.db import connections

KEPT = 16  # threads that wait for a next request; more are made as they are needed, and end afterwards


class Threads:
    """Executors of one thread each; who takes one has it alone."""

    def __init__(self, kept: int = KEPT) -> None:
        self._kept = kept
        self.idle: list[ThreadPoolExecutor] = []

    def take(self) -> ThreadPoolExecutor:
        """The one used last, whose connection is the likeliest to be good; else a new one."""
        try:
            return self.idle.pop()
        except IndexError:
            return ThreadPoolExecutor(max_workers=1, thread_name_prefix="request")

    def give_back(self, executor: ThreadPoolExecutor) -> None:
        """Keep it for another once it is through with whatever it was asked, or let it end."""

        def through() -> None:
            if len(self.idle) < self._kept:
                self.idle.append(executor)
            else:
                connections.close_all()
                executor.shutdown(wait=False)

        executor.submit(through)


class Handler(ASGIHandler):
    """Django's, with kept threads. Connections are bounded by CONN_MAX_AGE and looked at before they are
    used, as behind WSGI."""

    def __init__(self) -> None:
        super().__init__()
        self.threads = Threads()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """One request."""
        if scope["type"] != "http":
            raise ValueError(f"There is nothing here for connections of type {scope['type']}.")
        executor = self.threads.take()
        try:
            async with ThreadSensitiveContext(executor=executor):
                await self.handle(scope, receive, send)
        finally:
            self.threads.give_back(executor)
