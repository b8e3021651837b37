"""How sessions and nodes look on pages: glyph, tone and words beside what states.py declares."""

from __future__ import annotations

from datetime import timedelta

from django.utils import timezone

from sessions_app.models import BootSession, Node
from sessions_app.states import CATEGORY_LOOKS, Category, PowerState, SessionResult, SessionStatus

Look = tuple[str, str]

IN_PROGRESS: Look = CATEGORY_LOOKS[Category.IN_PROGRESS]

RESULT_LOOKS: dict[str, Look] = {
    SessionResult.SUCCEEDED: CATEGORY_LOOKS[Category.SUCCEEDED],
    SessionResult.FAILED: CATEGORY_LOOKS[Category.FAILED],
    SessionResult.ERROR: CATEGORY_LOOKS[Category.FAILED],
    SessionResult.CANCELLED: CATEGORY_LOOKS[Category.EXCLUDED],
    SessionResult.SUPERSEDED: CATEGORY_LOOKS[Category.EXCLUDED],
}
POWER_LOOKS: dict[str, Look] = {
    PowerState.ON: ("●", "green"),
    PowerState.OFF: ("○", "slate"),
    PowerState.CHANGING: ("◐", "blue"),
    PowerState.UNKNOWN: ("◌", "violet"),
}
# A report that is older says little about now (BOS's component_actual_state_ttl is 4 h by default).
BELIEVED = timedelta(hours=4)


def session_look(session: BootSession) -> tuple[Look, str]:
    """Look and word of a session as a whole."""
    if session.status == SessionStatus.PENDING:
        return CATEGORY_LOOKS[Category.NOT_STARTED], "pending"
    if session.status == SessionStatus.RUNNING:
        return IN_PROGRESS, "in progress"
    look = RESULT_LOOKS.get(session.result, CATEGORY_LOOKS[Category.EXCLUDED])
    return look, SessionResult(session.result).label


def node_look(node: Node) -> tuple[Look, str]:
    """Look and word of a node as it is now: what needs a person first."""
    if node.failed:
        return ("✕", "red"), "failed"
    if node.enabled and node.session_id:
        return IN_PROGRESS, "in a session"
    if node.locked:
        return ("–", "grey"), "locked"
    if not node.hardware_enabled:
        return ("–", "grey"), "disabled"
    if node.actual_id and node.actual_at:
        if timezone.now() - node.actual_at > BELIEVED:
            return ("◌", "violet"), "silent"
        if node.desired_id and node.desired_id != node.actual_id:
            return ("▲", "amber"), "runs another image"
        return ("●", "green"), "booted"
    return POWER_LOOKS[node.power_state], f"power {PowerState(node.power_state).label}"
