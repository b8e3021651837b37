"""Audit rows on their way to the site's archive: each at least once, in order, signed (docs/security.md).

A row that is to be delivered has a second row (AuditPending), written with it; what was delivered loses it.
So nothing is passed over whose transaction ended late, and a restart goes on where the last answer was read.
Where the archive does not answer, tries are put off: 5 s, 10 s, ... up to ten minutes.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import time
from datetime import timedelta

import requests
from django.conf import settings
from django.utils import timezone

from accounts_app.models import AuditPending, AuditWebhook

log = logging.getLogger(__name__)

BATCH = 100  # rows of one request
MOST = 2000  # rows of one step
LEASE = timedelta(seconds=60)  # for which one worker has the delivery to itself
TIMEOUT = (5, 15)  # seconds: to connect, between two bytes of the answer
FIRST_WAIT, LONGEST_WAIT = 5, 600  # seconds
SIGNATURE, TIMESTAMP = "X-Muster-Signature", "X-Muster-Timestamp"


def deliver() -> int:
    """Send what is due, unless another worker does; how many rows were delivered."""
    if not settings.MUSTER_AUDIT_WEBHOOK:
        return 0
    delivered = 0
    while delivered < MOST and AuditPending.objects.exists() and AuditWebhook.claim(LEASE):
        rows = list(AuditPending.objects.select_related("entry").order_by("entry_id")[:BATCH])
        fault = send(json.dumps({"entries": [row.entry.as_document() for row in rows]}).encode())
        if fault:
            _put_off(fault)
            break
        AuditPending.objects.filter(pk__in=[row.pk for row in rows]).delete()
        now = timezone.now()
        AuditWebhook.objects.update(next_at=now, failures=0, error="", delivered_at=now)
        delivered += len(rows)
    return delivered


def send(body: bytes) -> str:
    """Post one signed body to the configured address and nowhere else; what went wrong, or nothing."""
    stamp = str(int(time.time()))
    headers = {
        "Content-Type": "application/json",
        "User-Agent": "muster-audit",
        TIMESTAMP: stamp,
        SIGNATURE: sign(settings.MUSTER_AUDIT_WEBHOOK_SECRET, stamp, body),
    }
    try:
        with requests.Session() as session:
            session.trust_env = False  # neither proxies nor passwords that the environment holds for others
            # A redirect is a failure: an archive that sends us elsewhere could send us into the network.
            with session.post(
                settings.MUSTER_AUDIT_WEBHOOK,
                data=body,
                headers=headers,
                timeout=TIMEOUT,
                allow_redirects=False,
                stream=True,  # the answer's body is not read
            ) as answer:
                return "" if 200 <= answer.status_code < 300 else f"It answered {answer.status_code}."
    except requests.RequestException as error:
        return f"It can't be reached: {type(error).__name__}."


def sign(secret: str, stamp: str, body: bytes) -> str:
    """`sha256=` and the HMAC-SHA256 of `STAMP.BODY` in hexadecimal digits."""
    digest = hmac.new(secret.encode(), stamp.encode() + b"." + body, hashlib.sha256)
    return f"sha256={digest.hexdigest()}"


def _put_off(fault: str) -> None:
    row = AuditWebhook.objects.get()
    wait = min(FIRST_WAIT * 2 ** min(row.failures, 10), LONGEST_WAIT)
    AuditWebhook.objects.update(
        next_at=timezone.now() + timedelta(seconds=wait), failures=row.failures + 1, error=fault
    )
    log.warning("Audit rows could not be delivered, next try in %s s. %s", wait, fault)
