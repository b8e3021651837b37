"""The Celery application. Its functions are steps and live in each app's steps.py."""

import os

from celery import Celery
from celery.signals import setup_logging

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

app = Celery("muster")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks(related_name="steps")


@setup_logging.connect
def keep_djangos_logging(**_: object) -> None:
    """Celery leaves logging alone where somebody listens to this signal."""
