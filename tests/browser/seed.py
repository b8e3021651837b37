"""`python -m tests.browser.seed empty|small|large|full`: rows for a site; prints its running session's id."""

import os
import sys

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
django.setup()

from tasks_app.models import Task  # noqa: E402  (needs Django)
from tests.pages import rows  # noqa: E402

people = rows.cast()
rows.keep_seen()
kind = sys.argv[1]
if kind != "empty":
    session = {"small": rows.small, "large": rows.large, "full": rows.full}[kind](people["ada"])
    task = Task.objects.get(name="firewall")
    print(session.uuid, task.uuid)
