"""Words of a background task, and its allowed moves."""

from django.db.models import TextChoices


class BackgroundTaskStatus(TextChoices):
    """A long action as a person follows it: a progress bar without domain meaning."""

    STARTED = "started", "started"  # at work
    DONE = "done", "done"  # ended well
    FAILED = "failed", "failed"  # ended badly; the message says why
    CANCELLED = "cancelled", "cancelled"  # stopped by somebody, or by the service going down


FINISHED = frozenset({BackgroundTaskStatus.DONE, BackgroundTaskStatus.FAILED, BackgroundTaskStatus.CANCELLED})

TRANSITIONS: dict[str, frozenset[str]] = {BackgroundTaskStatus.STARTED: frozenset(FINISHED)}
