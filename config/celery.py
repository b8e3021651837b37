"""The Celery application. Its functions are steps and live in each app's steps.py."""

import gc
import os

from celery import Celery
from celery.signals import beat_init, setup_logging, worker_init, worker_process_init, worker_ready

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

app = Celery("muster")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks(related_name="steps")


@setup_logging.connect
def keep_djangos_logging(**_: object) -> None:
    """Celery leaves logging alone where somebody listens to this signal."""


@worker_init.connect
def freeze_what_is_loaded(**_: object) -> None:
    """Children share the parent's memory until somebody writes to it, and the garbage collector does."""
    app.loader.import_default_modules()
    gc.collect()
    gc.freeze()


@worker_ready.connect  # not before: a pool's children are forked without its threads
@worker_process_init.connect
@beat_init.connect
def follow_the_logging_level(**_: object) -> None:
    """See config.loglevel; imported late, for Celery is configured before Django is."""
    from config import loglevel

    loglevel.follow()
