"""Tasks, what triggers them, their runs, and Terraform's state."""

from tasks_app.models.remote_state import StateVersion, TerraformState
from tasks_app.models.runs import Run, RunLog, SavedPlan, TaskEvent
from tasks_app.models.tasks import Task, Trigger, WatchLease

__all__ = [
    "Run",
    "RunLog",
    "SavedPlan",
    "StateVersion",
    "Task",
    "TaskEvent",
    "TerraformState",
    "Trigger",
    "WatchLease",
]
