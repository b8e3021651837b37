"""Infrastructure tasks and their runs."""

from django.apps import AppConfig


class TasksConfig(AppConfig):
    """Floor three: a sibling of the other two, imports neither."""

    name = "tasks_app"
    verbose_name = "Tasks"

    def ready(self) -> None:
        """Register the checks, listen to what happens."""
        from tasks_app import checks, receivers  # noqa: F401  (both register on import)
