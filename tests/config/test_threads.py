"""Requests behind ASGI: their threads, and with them the database's connections, are kept."""

import asyncio
import threading
import time

import pytest
from django.db import connection
from django.http import HttpResponse
from django.test import override_settings
from django.urls import path

from config.threads import Handler, Threads

seen = []


def note(request):
    connection.ensure_connection()
    seen.append((threading.get_ident(), connection.connection))
    return HttpResponse("noted")


urlpatterns = [path("note", note)]
pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.urls(__name__)]


async def ask(handler, place):
    scope = {"type": "http", "method": "GET", "path": place, "query_string": b""}
    scope["headers"] = [(b"host", b"localhost")]
    sent, messages = [], [{"type": "http.request", "body": b"", "more_body": False}]

    async def receive():
        if not messages:
            await asyncio.Event().wait()
        return messages.pop()

    async def send(message):
        sent.append(message)

    await handler(scope, receive, send)
    while not handler.threads.idle:
        await asyncio.sleep(0)
    return sent[0]["status"]


@pytest.fixture(autouse=True)
def plain():
    seen.clear()
    with override_settings(MIDDLEWARE=[]):
        yield


def test_a_request_finds_the_connection_of_the_one_before():
    async def three():
        handler = Handler()
        return [await ask(handler, "/note") for _ in range(3)]

    assert asyncio.run(three()) == [200, 200, 200]
    assert len(set(seen)) == 1


def test_no_more_threads_are_kept_than_may_be():
    threads = Threads(kept=2)
    taken = [threads.take() for _ in range(3)]
    idents = [one.submit(threading.get_ident).result() for one in taken]
    for kept, one in enumerate(taken[:2], 1):
        threads.give_back(one)
        while len(threads.idle) < kept:
            time.sleep(0.01)
    third = next(iter(taken[2]._threads))
    threads.give_back(taken[2])
    third.join(30)
    assert not third.is_alive()
    again = [threads.take().submit(threading.get_ident).result() for _ in range(2)]
    assert sorted(again) == sorted(idents[:2])
