"""What runs on the beat's ticks for the event log."""

from celery import shared_task

from events_app import services


@shared_task(ignore_result=True)
def note_beat() -> None:
    """Beat sent it and the workers of the default queue run it: both are at work."""
    services.note_seen("beat")
    services.note_seen("runner")


@shared_task(ignore_result=True)
def tell_progress() -> None:
    """Tell of progress that was stored too soon after the last telling."""
    services.tell_untold()


@shared_task(ignore_result=True)
def prune_events() -> None:
    """Forget what is older than kept."""
    services.prune()
