"""Booting fleets of nodes."""

from django.apps import AppConfig


class SessionsConfig(AppConfig):
    """Floor three: a sibling of tasks and workflows, imports neither."""

    name = "sessions_app"
    verbose_name = "Sessions"

    def ready(self) -> None:
        """Register the check of the driver table."""
        from sessions_app import checks  # noqa: F401  (registers on import)
