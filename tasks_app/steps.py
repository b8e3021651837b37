"""Celery's door: wake-ups that may come twice, late or never. The beat sends each of them again."""

from celery import shared_task
from celery.signals import worker_shutting_down

from tasks_app import engine, firing, owners, pruning, recovery
from tasks_app.records import wake_workers


@shared_task(ignore_result=True)
def advance_runs() -> None:
    """Take due runs, one after another, until there is none."""
    engine.work()


@shared_task(ignore_result=True)
def trigger_runs() -> None:
    """Queue runs for what has changed, ticked or happened."""
    if firing.fire_due():
        wake_workers()


@shared_task(ignore_result=True)
def sweep() -> None:
    """Find runs whose worker died, tasks that wait to be deleted."""
    recovery.sweep()


@shared_task(ignore_result=True)
def prune_runs() -> None:
    """Forget history that is older than kept."""
    pruning.prune()


@worker_shutting_down.connect
def interrupt_runs(**_: object) -> None:
    """A worker that is told to stop interrupts what it runs and gives it back."""
    owners.stop_soon()
