"""Queued analyses, delivered when their workflow is usable.

The queue is the table. A gateway claims a row, keeps the claim while the service computes, and writes the
result only if the claim is still its own.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

import aiohttp
from asgiref.sync import sync_to_async
from django.db import DatabaseError
from django.db.models import F
from django.utils import timezone

from events_app.models import InvalidTransition
from events_app.services import finish_background_task, recording, report_progress
from events_app.states import BackgroundTaskStatus
from workflows_app.gateway.forwarding import Answer, Broken, NoReplica, Question, TooLarge, forward
from workflows_app.gateway.routes import Route, Routes
from workflows_app.models import Run
from workflows_app.states import RunStatus
from workflows_app.steps import expire_run

log = logging.getLogger(__name__)

CLAIM = timedelta(seconds=20)  # renewed every third of it
IN_FLIGHT = 100  # analyses that one gateway delivers at a time
LONGEST_PAUSE = 30.0
TRY_AGAIN = frozenset({429, 502, 503, 504})  # the service says: later
KEPT_ANSWER_BYTES = 1024 * 1024  # of a queued analysis' answer


@dataclass(frozen=True)
class Claimed:
    """One analysis that this gateway delivers."""

    pk: UUID
    claim: int
    workflow_id: str
    body: bytes
    content_type: str
    attempts: int


class Deliveries:
    """What this gateway delivers now."""

    def __init__(self, session: aiohttp.ClientSession, routes: Routes) -> None:
        self._session = session
        self._routes = routes
        self._tasks: set[asyncio.Task[None]] = set()

    async def look(self) -> None:
        """Claim what is due and may be delivered, and begin with it."""
        room = IN_FLIGHT - len(self._tasks)
        usable = [route.workflow_id for route in self._routes.by_workflow.values() if route.usable]
        if room <= 0 or not usable:
            return
        for claimed in await sync_to_async(claim_due)(usable, room):
            task = asyncio.create_task(self._deliver(claimed))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def finish(self, seconds: float) -> None:
        """Wait for what is under way; what is not over by then is delivered again by another gateway."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=seconds)
        for task in self._tasks:
            task.cancel()

    async def _deliver(self, claimed: Claimed) -> None:
        renewing = asyncio.create_task(_renew(claimed))
        try:
            route = self._routes.by_workflow.get(claimed.workflow_id)
            if route is None:
                await sync_to_async(put_back)(claimed, "The workflow is not published.", 1.0)
                return
            await self._ask(claimed, route)
        except DatabaseError as error:
            # The claim lapses and the row is due again.
            log.warning("Run %s: %s", claimed.pk, error)
        except Exception:
            log.exception("Run %s could not be delivered.", claimed.pk)
        finally:
            renewing.cancel()

    async def _ask(self, claimed: Claimed, route: Route) -> None:
        headers = {"X-Muster-Run": str(claimed.pk), "X-Muster-Attempt": str(claimed.attempts)}
        if claimed.content_type:
            headers["Content-Type"] = claimed.content_type
        question = Question(
            workflow_id=claimed.workflow_id,
            service=route.entry,
            method="POST",
            path=route.entry_path,
            headers=headers,
            body=claimed.body,
            seconds=route.request_seconds,
        )
        pause = min(2.0 ** min(claimed.attempts, 5), LONGEST_PAUSE)
        try:
            answer = await forward(self._session, self._routes, question)
        except NoReplica:
            await sync_to_async(put_back)(claimed, "No instance could be reached.", 1.0)
        except Broken as error:
            await sync_to_async(put_back)(claimed, f"The connection broke: {error}.", pause)
        except TimeoutError:
            words = f"No answer within {route.request_seconds:g} s."
            await sync_to_async(put_back)(claimed, words, pause)
        except TooLarge:
            await sync_to_async(finish)(claimed, None, "The answer is too large.")
        else:
            if answer.status in TRY_AGAIN:
                words = f"The workflow answered {answer.status}."
                await sync_to_async(put_back)(claimed, words, pause)
            else:
                await sync_to_async(finish)(claimed, answer, "")


def claim_due(workflows: list[str], count: int) -> list[Claimed]:
    """Take due analyses of these workflows, oldest first; those whose time is over end here."""
    now = timezone.now()
    claimed = []
    rows = Run.objects.due(now).filter(workflow__in=workflows).order_by("due_at")
    for pk, claim, expires_at in list(rows.values_list("pk", "claim", "expires_at")[:count]):
        if expires_at <= now:
            expire_run(Run.objects.select_related("workflow__domain").get(pk=pk))
            continue
        mine = Run.objects.due(now).filter(pk=pk, claim=claim)
        if mine.update(claim=F("claim") + 1, claimed_until=now + CLAIM, attempts=F("attempts") + 1):
            row = Run.objects.get(pk=pk)
            claimed.append(
                Claimed(pk, claim + 1, row.workflow_id, bytes(row.body), row.content_type, row.attempts)
            )
            report_progress(row.background_task_id, current=0, message="The analysis is being delivered.")
    return claimed


async def _renew(claimed: Claimed) -> None:
    """Keep the claim while the service computes."""
    while True:
        await asyncio.sleep(CLAIM.total_seconds() / 3)
        try:
            await sync_to_async(_prolong)(claimed)
        except DatabaseError as error:
            log.warning("Run %s: the claim was not renewed: %s", claimed.pk, error)


def _mine(claimed: Claimed) -> Any:
    return Run.objects.filter(pk=claimed.pk, claim=claimed.claim, status=RunStatus.QUEUED)


def _prolong(claimed: Claimed) -> None:
    _mine(claimed).update(claimed_until=timezone.now() + CLAIM)


def put_back(claimed: Claimed, words: str, pause: float) -> None:
    """Not delivered: due again after `pause` seconds."""
    due_at = timezone.now() + timedelta(seconds=pause)
    if _mine(claimed).update(claimed_until=None, due_at=due_at, error=words):
        row = Run.objects.get(pk=claimed.pk)
        report_progress(row.background_task_id, current=0, message=f"The analysis is queued. {words}")


def finish(claimed: Claimed, answer: Answer | None, words: str) -> None:
    """The workflow took it; what it answered is kept. Nothing happens where the claim was lost."""
    good = answer is not None and 200 <= answer.status < 300
    if answer is not None and not good:
        words = f"The workflow answered {answer.status}."
    try:
        with recording():
            run = _mine(claimed).select_for_update(of=("self",)).select_related("workflow__domain").first()
            if run is None:
                return
            run.move_to(
                RunStatus.SUCCEEDED if good else RunStatus.FAILED,
                finished_at=timezone.now(),
                claimed_until=None,
                error=words,
                answer_status=answer.status if answer else None,
                answer_type=answer.headers.get("Content-Type", "")[:255] if answer else "",
                answer=answer.body[:KEPT_ANSWER_BYTES] if answer else b"",
            )
            finish_background_task(
                run.background_task_id,
                status=BackgroundTaskStatus.DONE if good else BackgroundTaskStatus.FAILED,
                message=words or "The analysis is done.",
                result={"run": str(run.pk), "status": answer.status if answer else None},
            )
    except InvalidTransition:
        log.info("Run %s ended otherwise while it was delivered.", claimed.pk)
