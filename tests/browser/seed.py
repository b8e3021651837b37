"""`python -m tests.browser.seed KIND`: rows (empty, small, large, full, wide:NODES)."""

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
    kind, _, count = kind.partition(":")
    made = {"small": rows.small, "large": rows.large, "full": rows.full, "wide": rows.wide}[kind]
    session = made(people["ada"], *([int(count)] if count else []))
    task = Task.objects.get(name="firewall")
    print(session.uuid, task.uuid)
