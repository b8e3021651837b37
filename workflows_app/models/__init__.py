"""Rows of this app: workflows and their revisions, what runs of them and where, and queued analyses."""

from workflows_app.models.deployments import Deployment, Gateway, Replica, Service
from workflows_app.models.runs import Run
from workflows_app.models.workflows import Revision, Runtime, Workflow

__all__ = ["Deployment", "Gateway", "Replica", "Revision", "Run", "Runtime", "Service", "Workflow"]
