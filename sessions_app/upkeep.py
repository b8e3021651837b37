"""What BOS's options ask to be done now and then: old sessions go, old reports are not believed any more."""

from __future__ import annotations

import logging
import re
from typing import Any

from django.utils import timezone

from events_app.services import record_event, recording
from sessions_app.counts import chunks
from sessions_app.models import BootSession, BosOptions, Node, NodePhase
from sessions_app.models.options import age
from sessions_app.states import LastAction, SessionStatus

log = logging.getLogger(__name__)

SESSIONS_AT_ONCE = 20  # deleted in one run: each takes its rows with it


def run() -> None:
    """One round; what is left is done by the next."""
    options = BosOptions.current()
    delete_old_sessions(options["cleanup_completed_session_ttl"])
    doubt_old_reports(options["component_actual_state_ttl"])


def delete_old_sessions(ttl: str) -> int:
    """Delete complete sessions that began longer ago than `ttl`, of all tenants; 0 of any unit deletes
    none. Return how many."""
    if not int(re.sub(r"\D", "", ttl)):
        return 0
    oldest = timezone.now() - age(ttl)
    old = BootSession.objects.filter(status=SessionStatus.COMPLETE, created_at__lt=oldest)
    sessions = list(old.order_by("created_at")[:SESSIONS_AT_ONCE])
    for session in sessions:
        remove_session(session=session, actor=None)
    return len(sessions)


def doubt_old_reports(ttl: str) -> int:
    """Empty the actual state of nodes that have not reported for `ttl`; return how many.

    It only says that nobody knows what the node runs: power is switched by sessions only, where the
    original would boot the node again (contracts, BOS 6 no. 7).
    """
    oldest = timezone.now() - age(ttl)
    silent = Node.objects.filter(actual__isnull=False, actual_at__lt=oldest)
    ids = list(silent.values_list("id", flat=True)[:10_000])
    count = 0
    for part in chunks(ids):
        with recording():
            # The condition again: a node may have reported since.
            count += Node.objects.filter(id__in=part, actual_at__lt=oldest).update(
                actual=None,
                actual_at=None,
                actual_configuration="",
                last_action=LastAction.ACTUAL_STATE_CLEANUP,
                last_action_at=timezone.now(),
                last_action_failed=False,
            )
            record_event(name="reports_doubted", area="node", data={"count": len(part), "older_than": ttl})
    log.debug("%s actual states are older than %s", count, ttl)
    return count


def remove_session(*, session: BootSession, actor: Any) -> None:
    """Delete a session that is over, with its rows.

    Until when a worker may still be talking to a node is kept with the node: whoever takes it next waits.
    """
    with recording():
        claimed = NodePhase.objects.of_session(session.pk).filter(claimed_until__gt=timezone.now())
        for node_id, until in claimed.values_list("node_id", "claimed_until"):
            Node.objects.filter(pk=node_id).update(busy_until=until)
        by = getattr(actor, "username", "the system")
        record_event(**session.event("session_deleted", by=by))
        session.delete()


def apply_logging_level() -> None:
    """Make this process log as the option says; where nobody has set it, the environment's level stays."""
    name = BosOptions.stored().get("logging_level", "")
    level = logging.getLevelNamesMapping().get(name.upper())
    if level is not None and level != logging.getLogger().level:
        logging.getLogger().setLevel(level)
        log.log(level, "The level of this log is %s now.", name.upper())
