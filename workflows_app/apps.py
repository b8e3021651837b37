"""Workflows, their deployments and rollouts."""

from django.apps import AppConfig


class WorkflowsConfig(AppConfig):
    """Floor three: a sibling of the other two, imports neither."""

    name = "workflows_app"
    verbose_name = "Workflows"
