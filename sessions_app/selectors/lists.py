"""Sessions as lists show them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.db.models import IntegerField, OuterRef, QuerySet, Subquery, Sum
from django.db.models.functions import Coalesce
from django.utils import timezone

from sessions_app.looks import Look, session_look
from sessions_app.models import BootSession, Phase
from sessions_app.states import CATEGORY_LOOKS, Category, SessionResult, SessionStatus

# Of all bars.
BAR_ORDER = (
    Category.SUCCEEDED,
    Category.FAILED,
    Category.IN_PROGRESS,
    Category.EXCLUDED,
    Category.NOT_STARTED,
)


def sessions_with_counts(user: Any, *, by_hand: bool = False) -> QuerySet[BootSession]:
    """Sessions that `user` may see, each with `failed_nodes`, by one statement; or what was done by hand."""
    failed = (
        Phase.objects.filter(boot_set__session=OuterRef("pk"))
        .order_by()
        .values("boot_set__session")
        .annotate(count=Sum("failed"))
        .values("count")
    )
    return (
        BootSession.objects.visible_to(user)
        .filter(by_hand=by_hand)
        .select_related("owner", "domain")
        .defer("components", "limit")
        .annotate(failed_nodes=Coalesce(Subquery(failed, output_field=IntegerField()), 0))
    )


@dataclass
class SessionRow:
    """A session as lists show it."""

    session: BootSession
    look: Look
    word: str
    parts: list[tuple[int, str]]

    @property
    def done(self) -> int:
        """Nodes for which nothing is left to do."""
        return self.session.total_nodes - self.session.open_nodes

    @property
    def bar_label(self) -> str:
        """The bar in words."""
        failed = getattr(self.session, "failed_nodes", 0)
        return f"{self.done} of {self.session.total_nodes} nodes over, {failed} failed"

    @property
    def took(self) -> timedelta:
        """Until its end, or until now."""
        return (self.session.stopped_at or timezone.now()) - self.session.created_at


def session_row(session: BootSession, moving: dict[Category, int] | None = None) -> SessionRow:
    """From a session with `failed_nodes`; `moving`: the counts of its phases by category, while it runs."""
    look, word = session_look(session)
    failed = getattr(session, "failed_nodes", 0)
    if moving:
        parts = [(moving[category], CATEGORY_LOOKS[category][1]) for category in BAR_ORDER]
    else:
        over = session.total_nodes - session.open_nodes - failed
        tone = "green" if session.result in {"", SessionResult.SUCCEEDED, SessionResult.FAILED} else "grey"
        parts = [(over, tone), (failed, "red"), (session.open_nodes, "slate")]
    return SessionRow(session, look, word, parts)


def session_rows(sessions: Iterable[BootSession]) -> list[SessionRow]:
    """Of a list. A running session's bar is that of all its phases together: long before the first node is
    over, it tells how far they are. One query."""
    sessions = list(sessions)
    running = [session.pk for session in sessions if session.status == SessionStatus.RUNNING]
    phases = Phase.objects.filter(boot_set__session__in=running).order_by()
    sums = [Sum(category) for category in BAR_ORDER]
    moving = {
        row[0]: dict(zip(BAR_ORDER, row[1:], strict=True))
        for row in phases.values_list("boot_set__session").annotate(*sums)
    }
    return [session_row(session, moving.get(session.pk)) for session in sessions]
