"""Bring runtimes to what is desired, and note what they report.

Rows say what is due (`Deployment.due_at`), messages and the beat's tick only wake up. A deployment is claimed
before its runtime is asked; who lost the claim meanwhile writes nothing.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from celery import shared_task
from django.conf import settings
from django.db import DatabaseError, connection
from django.db.models import F
from django.utils import timezone

from events_app.models import InvalidTransition
from events_app.services import finish_background_task, recording
from events_app.states import BackgroundTaskStatus
from workflows_app.drivers.base import Observation, Plan, RuntimeDriver, RuntimeFault
from workflows_app.models import Deployment, Gateway, Run, Runtime
from workflows_app.models.workflows import driver_of
from workflows_app.observed import store_fault, store_observation
from workflows_app.states import RunStatus
from workflows_app.stream import stream_url

log = logging.getLogger(__name__)

CLAIM = timedelta(seconds=12)  # renewed while a runtime is asked, so that of a dead worker lapses soon
RENEW_EVERY = 4.0
AT_WORK_FOR = 20.0  # seconds that one step goes on claiming
# Seconds until the next look. A runtime that tells of changes is looked at seldom, in case a hint was lost.
LOOKS = {"moving": 1.0, "moving_watched": 5.0, "resting": 10.0, "resting_watched": 30.0}
LONGEST_PAUSE = 30.0


@dataclass(frozen=True)
class Claim:
    """A right to work on one deployment until it lapses. `due_at`: what the claim wrote there."""

    pk: str
    number: int
    due_at: datetime


@shared_task(ignore_result=True)
def reconcile(workflow_id: str | None = None) -> int:
    """Compare desired with actual where that is due, `workflow_id` first; return how many were looked at."""
    until = time.monotonic() + AT_WORK_FOR
    looked = 0
    while time.monotonic() < until:
        claim = _claim(workflow_id)
        if claim is None:
            if workflow_id is None:
                break
            workflow_id = None
            continue
        workflow_id = None
        _look(claim)
        looked += 1
    return looked


def _claim(workflow_id: str | None) -> Claim | None:
    """Take one due deployment; None where none is left, or others were faster each time."""
    for _ in range(20):
        now = timezone.now()
        due = Deployment.objects.due(now)
        if workflow_id is not None:
            due = due.filter(pk=workflow_id)
        row = due.order_by("due_at").values("pk", "claim").first()
        if row is None:
            return None
        end = now + CLAIM
        taken = Deployment.objects.due(now).filter(pk=row["pk"], claim=row["claim"])
        if taken.update(claim=F("claim") + 1, claimed_until=end, due_at=end):
            return Claim(row["pk"], row["claim"] + 1, end)
    return None


def _look(claim: Claim) -> None:
    """One pass over one deployment. Whatever goes wrong, the row is due again."""
    pause: float | None = LONGEST_PAUSE
    try:
        deployment = Deployment.objects.select_related("workflow__domain", "revision", "runtime").get(
            pk=claim.pk
        )
        with _renewed(claim):
            pause = _bring_and_store(deployment, claim)
    except Deployment.DoesNotExist:
        return
    except Exception:
        log.exception("Workflow %s could not be reconciled.", claim.pk)
    finally:
        _release(claim, pause)


@contextlib.contextmanager
def _renewed(claim: Claim) -> Iterator[None]:
    """Keep the claim as long as its holder lives, however long a runtime takes to answer."""
    over = threading.Event()

    def renew() -> None:
        try:
            while not over.wait(RENEW_EVERY):
                mine = Deployment.objects.filter(pk=claim.pk, claim=claim.number)
                if not mine.update(claimed_until=timezone.now() + CLAIM):
                    return
        except DatabaseError as error:
            log.warning("The claim of %s was not renewed: %s", claim.pk, error)
        finally:
            connection.close()

    renewing = threading.Thread(target=renew, name=f"claim of {claim.pk}", daemon=True)
    renewing.start()
    try:
        yield
    finally:
        over.set()
        renewing.join()


def _bring_and_store(deployment: Deployment, claim: Claim) -> float | None:
    """Ask the runtime, note its answer; return seconds until the next look, None for never."""
    plan = deployment.plan(stream_url())
    try:
        driver = driver_of(deployment.runtime)
        seen, refusal = _bring(driver, deployment, plan)
    except RuntimeFault as fault:
        return _after_fault(deployment, claim, fault)
    except ValueError as error:  # a kind that the settings name no more
        return _after_fault(deployment, claim, RuntimeFault(str(error), permanent=True))
    if refusal is not None:
        return _after_fault(deployment, claim, refusal, plan, seen)
    Runtime.objects.filter(pk=deployment.runtime_id, failures__gt=0).update(failures=0, error="")
    moving = store_observation(deployment.pk, claim.number, plan, seen)
    if moving is None:
        return None
    return LOOKS[("moving" if moving else "resting") + ("_watched" if driver.watches else "")]


def _bring(
    driver: RuntimeDriver, deployment: Deployment, plan: Plan
) -> tuple[Observation, RuntimeFault | None]:
    """What runs, after the runtime was asked for what shall run, where it was not before; and what it said
    where it would not. Raises RuntimeFault where it doesn't even tell what runs."""
    ref = str(deployment.ref)
    seen = driver.observe(ref)
    missing = {service.id for service in plan.services} - {service.id for service in seen.services}
    try:
        if not deployment.wanted:
            if not (seen.services or seen.leftovers):
                return seen, None
            driver.remove(ref)
        elif missing or (seen.digest != plan.digest() and (plan.services or seen.services)):
            driver.apply(plan)
        else:
            return seen, None
    except RuntimeFault as refusal:
        return seen, refusal
    return driver.observe(ref), None


def _after_fault(
    deployment: Deployment,
    claim: Claim,
    fault: RuntimeFault,
    plan: Plan | None = None,
    seen: Observation | None = None,
) -> float | None:
    """Note it, and what was seen before; where the runtime doesn't answer, leave its other deployments in
    peace for a while too."""
    attempts = store_fault(deployment.pk, claim.number, fault, plan, seen)
    pause = min(2.0 ** min(attempts, 5), LONGEST_PAUSE)
    if not fault.permanent:
        Runtime.objects.filter(pk=deployment.runtime_id).update(failures=F("failures") + 1, error=str(fault))
        now = timezone.now()
        Deployment.objects.due(now).filter(runtime=deployment.runtime_id).update(
            due_at=now + timedelta(seconds=pause)
        )
    return pause


def _release(claim: Claim, pause: float | None) -> None:
    """End the claim. Who asked for something meanwhile has set `due_at`: then it stays."""
    mine = Deployment.objects.filter(pk=claim.pk, claim=claim.number)
    following = None if pause is None else timezone.now() + timedelta(seconds=pause)
    if not mine.filter(due_at=claim.due_at).update(due_at=following, claimed_until=None):
        mine.update(claimed_until=None)


@shared_task(ignore_result=True)
def sweep() -> None:
    """End analyses whose time is over, also while no gateway is at work; forget what is old."""
    now = timezone.now()
    for run in Run.objects.select_related("workflow__domain").filter(
        status=RunStatus.QUEUED, expires_at__lte=now
    )[:200]:
        expire_run(run)
    kept = now - timedelta(days=settings.MUSTER_RUNS_KEPT_DAYS)
    Run.objects.filter(finished_at__lt=kept).delete()
    Gateway.objects.filter(seen_at__lt=now - timedelta(hours=1)).delete()


def expire_run(run: Run) -> bool:
    """Give up on an analysis that nobody could take in time; False where it was taken after all."""
    reason = run.error or "The workflow was not usable in time."
    try:
        with recording():
            run.move_to(RunStatus.TIMED_OUT, finished_at=timezone.now(), error=reason)
            finish_background_task(run.background_task_id, status=BackgroundTaskStatus.FAILED, message=reason)
    except InvalidTransition:
        return False
    return True
