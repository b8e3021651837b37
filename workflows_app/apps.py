"""Workflows, their deployments and rollouts."""

from django.apps import AppConfig


class WorkflowsConfig(AppConfig):
    """Floor three: a sibling of the other two, imports neither."""

    name = "workflows_app"
    verbose_name = "Workflows"

    def ready(self) -> None:
        """Register the check of the driver table."""
        from workflows_app import checks  # noqa: F401  (registers on import)
