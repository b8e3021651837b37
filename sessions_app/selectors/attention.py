"""What of booting needs a person, and the counts of the overview."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.db.models import Count, Exists, F, OuterRef, Q, QuerySet
from django.utils import timezone
from django.utils.http import urlencode

from sessions_app.looks import Look
from sessions_app.models import Bmc, BootSession, Node, Phase
from sessions_app.nodeset import fold
from sessions_app.selectors.lists import sessions_with_counts
from sessions_app.selectors.session import NAMES_SHOWN, still_since
from sessions_app.states import Reach, SessionResult, SessionStatus

RECENT = timedelta(hours=24)
MOST_BMC_LINES = 5  # kinds of trouble with BMCs in the list


@dataclass
class Attention:
    """One line of the attention list."""

    look: Look
    what: str
    names: str
    url: str
    verb: str = "Open"
    mono: bool = False  # `names` are names of nodes


def sessions_needing_attention(user: Any) -> QuerySet[BootSession]:
    """Running ones with failures, and those of the last day that ended badly."""
    failures = Phase.objects.filter(boot_set__session=OuterRef("pk"), failed__gt=0)
    # What is cheap to ask comes first: databases keep the order, and one Q would sort by name.
    bad = (Q(status=SessionStatus.RUNNING) & Exists(failures)) | Q(
        status=SessionStatus.COMPLETE,
        result__in=(SessionResult.FAILED, SessionResult.ERROR),
        stopped_at__gte=timezone.now() - RECENT,
    )
    return BootSession.objects.by_template().visible_to(user).filter(bad)


def failed_nodes(user: Any) -> QuerySet[Any]:
    """Nodes whose last session failed on them and that nothing has been done with since."""
    return Node.objects.visible_to(user).filter(failed=True)


ILL = Q(reach=Reach.UNREACHABLE) | ~Q(last_error="")


def nodes_needing_attention(user: Any) -> QuerySet[Any]:
    """Nodes that failed, or whose BMC does not answer or answers with a refusal."""
    return Node.objects.visible_to(user).filter(Q(failed=True) | Q(bmc__in=Bmc.objects.filter(ILL)))


def _silent_bmcs(user: Any) -> list[Attention]:
    """BMCs that don't answer, and those that refuse, by what is wrong with them."""
    by_error: dict[tuple[str, str], list[str]] = defaultdict(list)
    ill = Node.objects.visible_to(user).filter(bmc__in=Bmc.objects.filter(ILL))
    for reach, error, name in ill.values_list("bmc__reach", "bmc__last_error", "name"):
        by_error[reach, "" if reach == Reach.UNREACHABLE else error].append(name)
    found = []
    for (reach, error), names in sorted(by_error.items(), key=lambda item: -len(item[1]))[:MOST_BMC_LINES]:
        nodes = "1 node" if len(names) == 1 else f"{len(names):,} nodes"
        what = f"The BMCs of {nodes} do not answer" if not error else f"{error}: {nodes}"
        if len(names) == 1:
            what = "The BMC of 1 node does not answer" if not error else what
        look = ("✕", "red") if reach == Reach.UNREACHABLE else ("▲", "amber")
        folded = fold(names, NAMES_SHOWN)
        url = f"/nodes/?bmc={reach}" if not error else f"/nodes/?{urlencode({'nodes': fold(names)})}"
        found.append(Attention(look, what, folded, url, mono=True))
    return found


def attention(user: Any) -> list[Attention]:
    """What of booting needs a person, worst first."""
    found: list[Attention] = []
    by_session: dict[Any, list[str]] = defaultdict(list)
    sessions: dict[Any, tuple[str, Any]] = {}
    for name, uuid, session in failed_nodes(user).values_list("name", "session__uuid", "session__name"):
        by_session[uuid].append(name)
        sessions[uuid] = (session, uuid)
    for uuid, names in sorted(by_session.items(), key=lambda item: -len(item[1])):
        nodes = "1 node" if len(names) == 1 else f"{len(names):,} nodes"
        where = f" in {sessions[uuid][0]}" if uuid else ""
        url = f"/sessions/{uuid}/?tab=errors" if uuid else "/nodes/?state=failed"
        found.append(
            Attention(("✕", "red"), f"{nodes} failed{where}", fold(names, NAMES_SHOWN), url, mono=True)
        )
    found += _silent_bmcs(user)
    now = timezone.now()
    ended = sessions_with_counts(user).filter(
        status=SessionStatus.COMPLETE, result=SessionResult.ERROR, stopped_at__gte=now - RECENT
    )
    for session in ended.order_by("-stopped_at")[:5]:
        url = f"/sessions/{session.uuid}/"
        found.append(Attention(("✕", "red"), f"{session.name} could not run", session.error, url))
    running = BootSession.objects.by_template().visible_to(user).filter(status=SessionStatus.RUNNING)
    for session in running.defer("components")[:20]:
        since = still_since(session, now)
        if since:
            minutes = int((now - since).total_seconds() // 60)
            what = f"{session.name} has not moved for {minutes} min"
            rest = f"{session.open_nodes:,} nodes are open"
            found.append(Attention(("▲", "amber"), what, rest, f"/sessions/{session.uuid}/"))
    return found


def counts_by_status(user: Any) -> dict[str, int]:
    """Running, pending, and how the last day's sessions ended."""
    since = timezone.now() - RECENT
    ended = Q(status=SessionStatus.COMPLETE, stopped_at__gte=since)
    found: dict[str, int] = (
        BootSession.objects.by_template()
        .visible_to(user)
        .aggregate(
            running=Count("id", filter=Q(status=SessionStatus.RUNNING)),
            pending=Count("id", filter=Q(status=SessionStatus.PENDING)),
            succeeded=Count("id", filter=ended & Q(result=SessionResult.SUCCEEDED)),
            failed=Count("id", filter=ended & Q(result__in=(SessionResult.FAILED, SessionResult.ERROR))),
        )
    )
    return found


def node_counts(user: Any) -> dict[str, int]:
    """All nodes, and how they are."""
    found: dict[str, int] = Node.objects.visible_to(user).aggregate(
        total=Count("id"),
        # Before the alias `failed`, which would hide the column.
        idle=Count("id", filter=Q(enabled=False, failed=False) & ~Q(power_state="off")),
        booted=Count("id", filter=Q(actual__isnull=False, failed=False) & ~Q(power_state="off")),
        failed=Count("id", filter=Q(failed=True)),
        busy=Count("id", filter=Q(enabled=True, session__isnull=False)),
        differs=Count("id", filter=Q(actual__isnull=False, desired__isnull=False) & ~Q(actual=F("desired"))),
        off=Count("id", filter=Q(power_state="off")),
    )
    return found
