"""What happened, and who hears of it."""

from typing import Any

from django.apps import AppConfig


class EventsConfig(AppConfig):
    """Floor one: uses none of the other apps."""

    name = "events_app"
    verbose_name = "Events"

    def ready(self) -> None:
        """Let a worker say that it is there as soon as it is."""
        from celery.signals import worker_ready

        from events_app import services

        def note_worker(sender: Any = None, **_: object) -> None:
            # Named before the @: `worker` boots nodes, `runner` does the rest (Procfile).
            services.note_seen(str(getattr(sender, "hostname", "worker")).split("@")[0])

        worker_ready.connect(note_worker, weak=False, dispatch_uid="events_app.note_worker")
