"""Sessions as lists show them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.db.models import IntegerField, OuterRef, QuerySet, Subquery, Sum
from django.db.models.functions import Coalesce
from django.utils import timezone

from sessions_app.looks import Look, session_look
from sessions_app.models import BootSession, Phase
from sessions_app.states import SessionResult


def sessions_with_counts(user: Any) -> QuerySet[BootSession]:
    """Sessions that `user` may see, each with `failed_nodes`, by one statement."""
    failed = (
        Phase.objects.filter(boot_set__session=OuterRef("pk"))
        .order_by()
        .values("boot_set__session")
        .annotate(count=Sum("failed"))
        .values("count")
    )
    return (
        BootSession.objects.visible_to(user)
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


def session_row(session: BootSession) -> SessionRow:
    """From a session with `failed_nodes`."""
    look, word = session_look(session)
    failed = getattr(session, "failed_nodes", 0)
    over = session.total_nodes - session.open_nodes - failed
    tone = "green" if session.result in {"", SessionResult.SUCCEEDED, SessionResult.FAILED} else "grey"
    parts = [(over, tone), (failed, "red"), (session.open_nodes, "slate")]
    return SessionRow(session, look, word, parts)
