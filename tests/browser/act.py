"""`python -m tests.browser.act WHAT …`: what workers and other people do while a browser looks.

work: do all that is due, until every session is over. fail SESSION NODE: this node fails in its boot phase.
churn SESSION COUNT: so many changes, in events of 250.
"""

import os
import random
import sys
import time
from collections import defaultdict

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
django.setup()

from django.utils import timezone  # noqa: E402  (needs Django)

from events_app.services import recording  # noqa: E402
from sessions_app import steps, work  # noqa: E402
from sessions_app.models import BootSession, NodePhase  # noqa: E402
from sessions_app.states import Category, SessionStatus, Step  # noqa: E402

PER_EVENT = 250


def do_all() -> None:
    """As a worker with its ticks would; at most two minutes."""
    deadline = time.monotonic() + 120
    running = BootSession.objects.filter(operation="shutdown").exclude(status=SessionStatus.COMPLETE)
    while running.exists() and time.monotonic() < deadline:
        steps.start_pending()
        steps.advance_nodes()


def fail(session: str, node: str) -> None:
    """Rows, counters and event together, as the engine writes them."""
    with recording():
        row = NodePhase.objects.select_related("phase", "session").get(
            session__uuid=session, node__name=node, phase__name="boot"
        )
        counts = work.Counts()
        counts.moved(row.session_id, row.phase_id, row.category, Category.FAILED, [node])
        NodePhase.objects.filter(pk=row.pk).move(
            Category.FAILED, step=Step.NONE, error="The node fell over.", stopped_at=timezone.now()
        )
        counts.write(timezone.now())
        counts.tell()


def churn(session: str, changes: str) -> None:
    """So many rows of the session move, 250 in each event: on, to their end, or back to the beginning."""
    chance = random.Random(changes)
    rows = NodePhase.objects.filter(session__uuid=session).select_related("node")
    known = {row.pk: row for row in rows.defer("error")}
    for _ in range(0, int(changes), PER_EVENT):
        counts = work.Counts()
        with recording():
            moved: dict[str, list[int]] = defaultdict(list)
            for row in chance.sample(list(known.values()), PER_EVENT):
                category = chance.choice([one for one in Category.values if one != row.category])
                counts.moved(row.session_id, row.phase_id, row.category, category, [row.node.name])
                moved[category].append(row.pk)
                row.category = category
            for category, ids in moved.items():
                NodePhase.objects.filter(pk__in=ids).update(category=category)
            counts.write(timezone.now())
            counts.tell()


if __name__ == "__main__":
    {"work": do_all, "fail": fail, "churn": churn}[sys.argv[1]](*sys.argv[2:])
