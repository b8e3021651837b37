"""What a worker does here: forget old answers, deliver audit rows."""

from __future__ import annotations

from datetime import timedelta

from celery import shared_task
from django.conf import settings
from django.utils import timezone

from accounts_app import webhook
from accounts_app.models import IdempotentAnswer


@shared_task
def prune_idempotent_answers() -> int:
    """Forget the answers whose keys count no more; say how many."""
    before = timezone.now() - timedelta(hours=settings.MUSTER_IDEMPOTENCY_HOURS)
    return IdempotentAnswer.objects.filter(created_at__lt=before).delete()[0]


@shared_task
def deliver_audit() -> int:
    """Send audit rows to the site's archive; say how many."""
    return webhook.deliver()
