"""BOS v2's writes to components: single, bulk, replacing, deleting (contracts, BOS 4.1).

Every write locks what it changes (rows of work by id, then nodes by id) and writes only the fields that it
was asked to, so of two writers at the same time neither undoes the other's change: the original loses
acknowledged writes here (contracts, BOS 6 no. 1).
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from django.core.exceptions import ValidationError
from django.db import connection
from django.db.models import F
from django.utils import timezone

from accounts_app.models import Domain
from events_app.services import record_event, recording
from sessions_app import endings, services, setup, steps
from sessions_app.counts import chunks
from sessions_app.models import BootArtifacts, BootSession, BootToken, Node, NodePhase
from sessions_app.models.nodes import canonical_name
from sessions_app.services import Refused
from sessions_app.states import OPEN, Step

EMPTY_ARTIFACTS = {"kernel": "", "kernel_parameters": "", "initrd": ""}
# What a component has that was created and never written to; PUT replaces by this and what it brings.
EMPTY: dict[str, Any] = {
    "actual_state": {"boot_artifacts": EMPTY_ARTIFACTS},
    "desired_state": {"boot_artifacts": EMPTY_ARTIFACTS, "configuration": ""},
    "staged_state": {"boot_artifacts": EMPTY_ARTIFACTS, "configuration": "", "session": ""},
    "event_stats": {
        "power_on_attempts": 0,
        "power_off_graceful_attempts": 0,
        "power_off_forceful_attempts": 0,
    },
    "enabled": False,
    "error": "",
    "session": "",
}
OVERRIDES = ("", "on_hold", "failed")


@dataclass
class Change:
    """What one component's document asks for: field by field of the node, and what follows from it."""

    values: dict[str, Any] = field(default_factory=dict)
    leaves: str = ""  # why the node leaves its session
    holds: bool = False  # it was enabled
    reports: bool = False  # it runs something else now


def patch_components(
    *, patches: Mapping[int, dict[str, Any]], actor: Any, replace: bool = False
) -> list[int]:
    """Merge a document into each node, by node id; return the ids in the order of the mapping.

    All or nothing: raises Refused before anything is written. With `replace` what a document does not
    mention is emptied.
    """
    retry: dict[int, list[str]] = defaultdict(list)
    with _turn(), recording():
        now = timezone.now()
        _lock_rows(patches)
        nodes = _locked_nodes(patches)
        merge = _Merge(now, getattr(actor, "username", "") or "the system", replace=replace)
        changes = {pk: merge.change(nodes[pk], patches[pk]) for pk in patches if pk in nodes}
        _leave_sessions(changes, now)
        _hold(changes, nodes, retry)
        _write(changes)
        _wake_reported(changes, now)
        record_event(
            name="components_changed",
            area="node",
            subject_name=nodes[next(iter(changes))].name if len(changes) == 1 else f"{len(changes)} nodes",
            data={"by": merge.who, "count": len(changes)},
        )
    for session_id, names in retry.items():
        _retry(session_id, names, actor)
    if any(change.reports for change in changes.values()):
        steps.wake_workers()
    return [pk for pk in patches if pk in changes]


_turns = threading.Lock()


def _turn() -> AbstractContextManager[object]:
    """On SQLite one thread of the process at a time: those that wait for its write lock look for it again in
    ever longer pauses, and some of two hundred never find it free before they give up."""
    inside = connection.in_atomic_block  # the write lock is held already
    return _turns if connection.vendor == "sqlite" and not inside else nullcontext()


def _lock_rows(ids: Iterable[int]) -> None:
    for part in chunks(ids):
        held = NodePhase.objects.filter(node_id__in=part, category__in=OPEN)
        list(held.select_for_update().order_by("id").values_list("id", flat=True))


def _locked_nodes(ids: Iterable[int]) -> dict[int, Node]:
    found: dict[int, Node] = {}
    for part in chunks(ids):
        list(Node.objects.filter(id__in=part).select_for_update().order_by("id").values_list("id", flat=True))
        nodes = Node.objects.select_related("actual", "desired", "staged", "session")
        found.update(nodes.defer("session__components", "session__limit").in_bulk(part))
    return found


class _Merge:
    """Turns documents into changes; looks artifacts and sessions up once for a whole request."""

    def __init__(self, now: datetime, who: str, *, replace: bool) -> None:
        self.now, self.who, self.replace = now, who, replace
        self._artifacts: dict[tuple[str, str, str], BootArtifacts] = {}
        self._sessions: dict[tuple[str, int | None], BootSession] = {}

    def change(self, node: Node, patch: Mapping[str, Any]) -> Change:
        """What this document asks of this node. Raises Refused."""
        made = Change()
        if self.replace:
            made.values |= {"on_hold": False, "failed": False, "retry_policy": None}
            patch = {**EMPTY, **patch}
        for name in ("error", "retry_policy"):
            if name in patch:
                made.values[name] = patch[name]
        made.values |= patch.get("event_stats") or {}
        self._state(made, "desired", node.desired, patch.get("desired_state"))
        self._state(made, "staged", node.staged, patch.get("staged_state"))
        self._actual(made, node, patch.get("actual_state"))
        if "session" in (patch.get("staged_state") or {}):
            made.values["staged_session"] = self._session(patch["staged_state"]["session"], node)
        self._last_action(made, patch.get("last_action"))
        self._ownership(made, node, patch)
        self._override(made, (patch.get("status") or {}).get("status_override"))
        return made

    def _state(self, made: Change, name: str, old: BootArtifacts | None, state: Any) -> None:
        if not state:
            return
        if "boot_artifacts" in state:
            made.values[name] = self._merged(old, state["boot_artifacts"])
        if "configuration" in state:
            made.values[f"{name}_configuration"] = state["configuration"]
        if set(state) != {"bss_token"}:
            made.values[f"{name}_at"] = self.now
        if name == "desired" and {"boot_artifacts", "configuration"} & set(state):
            made.values |= EMPTY["event_stats"]

    def _actual(self, made: Change, node: Node, state: Any) -> None:
        if not state:
            return
        token = BootToken.objects.find(state["bss_token"]) if state.get("bss_token") else None
        if token is not None:
            made.values |= {"actual_id": token.booted_id, "actual_at": self.now}
        elif "boot_artifacts" in state:
            actual = self._merged(node.actual, state["boot_artifacts"])
            made.values |= {"actual": actual, "actual_at": self.now if actual else None}
        else:
            return
        made.reports = True

    def _last_action(self, made: Change, action: Any) -> None:
        if not action:
            return
        made.values["last_action_at"] = self.now
        if "action" in action:
            made.values["last_action"] = action["action"]
        if "failed" in action:
            made.values["last_action_failed"] = action["failed"]

    def _ownership(self, made: Change, node: Node, patch: Mapping[str, Any]) -> None:
        """Whose the node is, and whether anything is done to it."""
        manual = bool(patch.get("desired_state")) and not patch.get("session")
        if "session" in patch or manual:
            wanted = self._session(patch.get("session") or "", node)
            if (wanted.pk if wanted else None) != node.session_id:
                made.values["session"] = wanted
                made.leaves = f"Taken over by a manual update by {self.who}."
        if "enabled" in patch:
            made.values["enabled"] = patch["enabled"]
            made.holds = patch["enabled"]
            if not patch["enabled"] and node.session_id is not None and not made.leaves:
                made.leaves = f"Disabled by {self.who}."

    def _override(self, made: Change, override: str | None) -> None:
        if override is None:
            return
        if override not in OVERRIDES:
            raise Refused(f"status_override can be one of {', '.join(map(repr, OVERRIDES))}")
        made.values |= {"on_hold": override == "on_hold", "failed": override == "failed"}

    def _merged(self, old: BootArtifacts | None, new: Mapping[str, str]) -> BootArtifacts | None:
        """The artifacts with some of their fields replaced; None where nothing is left."""
        whole = {**(old.as_document() if old and not self.replace else EMPTY_ARTIFACTS), **new}
        key = (whole["kernel"], whole["initrd"], whole["kernel_parameters"])
        if not any(key):
            return None
        if key not in self._artifacts:
            self._artifacts[key] = BootArtifacts.of(kernel=key[0], initrd=key[1], kernel_parameters=key[2])
        return self._artifacts[key]

    def _session(self, name: str, node: Node) -> BootSession | None:
        if not name:
            return None
        key = (name, node.domain_id)
        if key not in self._sessions:
            found = BootSession.objects.by_template().filter(name=name, domain=None).first()
            if found is None and node.domain_id is not None:
                found = BootSession.objects.by_template().filter(name=name, domain_id=node.domain_id).first()
            if found is None:
                raise Refused(f"Session '{name}' does not exist")
            self._sessions[key] = found
        return self._sessions[key]


def _leave_sessions(changes: Mapping[int, Change], now: datetime) -> None:
    """Take nodes out of the sessions that drive them: no action follows once this is committed."""
    by_reason: dict[str, list[int]] = defaultdict(list)
    for pk, change in changes.items():
        if change.leaves:
            by_reason[change.leaves].append(pk)
    for reason, ids in by_reason.items():
        kept = [pk for pk in ids if "session" not in changes[pk].values]
        release(kept, reason, now)
        release(set(ids) - set(kept), reason, now, lost_to_session=True)


def release(node_ids: Iterable[int], reason: str, now: datetime, *, lost_to_session: bool = False) -> None:
    """Leave nodes out of the running sessions that own them, with the reason; end those that are over.
    `lost_to_session`: they are not the sessions' any more, and not counted there."""
    lost: dict[int, int] = defaultdict(int)
    for rows in setup.owned_rows(node_ids):
        for session_id, count in setup.exclude_rows(rows, reason, now).items():
            lost[session_id] += count
    for session_id in sorted(lost):
        if lost_to_session:
            BootSession.objects.filter(id=session_id).update(taken_over=F("taken_over") + lost[session_id])
        session = BootSession.objects.get(id=session_id)
        if session.open_nodes <= 0:
            endings.finish_session(session)


def _hold(changes: Mapping[int, Change], nodes: Mapping[int, Node], retry: dict[int, list[str]]) -> None:
    """An enabled node goes on where its session is at work with it, is tried again where it failed, and
    else waits on hold for a session: power is switched by sessions only."""
    enabled = [pk for pk, change in changes.items() if change.holds]
    driven: set[int] = set()
    for rows in setup.owned_rows(enabled, by_hand=False):
        driven |= set(rows.exclude(step="").values_list("node_id", flat=True))
    for pk in enabled:
        node, change = nodes[pk], changes[pk]
        if pk in driven and not change.leaves:
            continue
        if node.failed and node.session_id is not None and not change.leaves:
            retry[node.session_id].append(node.name)
        else:
            change.values = {"on_hold": True, "failed": False, **change.values}


def _retry(session_id: int, names: list[str], actor: Any) -> None:
    session = BootSession.objects.filter(pk=session_id).first()
    if session is None:
        return
    try:
        services.retry_failed(session=session, actor=actor, nodes=names)
    except Refused:
        # Nothing of this session's is left to try: wait for the next session.
        Node.objects.filter(name__in=names).update(on_hold=True, failed=False)


def _write(changes: Mapping[int, Change]) -> None:
    """One statement for all nodes that change alike."""
    alike: dict[tuple[Any, ...], list[int]] = defaultdict(list)
    values: dict[tuple[Any, ...], dict[str, Any]] = {}
    for pk, change in changes.items():
        if change.values:
            key = tuple(sorted((name, _comparable(value)) for name, value in change.values.items()))
            alike[key].append(pk)
            values[key] = change.values
    for key, members in alike.items():
        for ids in chunks(members):
            Node.objects.filter(id__in=ids).update(**values[key])


def _comparable(value: Any) -> str:
    return f"{type(value).__name__} {getattr(value, 'pk', value)}"


def _wake_reported(changes: Mapping[int, Change], now: datetime) -> None:
    """As a node's own report: rows that wait for one look at what was reported."""
    reported = [pk for pk, change in changes.items() if change.reports]
    for ids in chunks(reported):
        rows = NodePhase.objects.filter(node_id__in=ids, category__in=OPEN, claim=None)
        rows.filter(step__in=(Step.AWAIT_ON, Step.AWAIT_REPORT)).update(due_at=now)


# -- creating and deleting ------------------------------------------------------------------------


def put_components(
    *, documents: Mapping[str, dict[str, Any]], domain: Domain | None, actor: Any
) -> list[int]:
    """Create or replace components by name; return node ids in order. Raises Refused for a malformed name,
    or one that another tenant's node has. A new one has no BMC yet: the inventory gives it one."""
    try:
        names = {canonical_name(name): document for name, document in documents.items()}
    except ValidationError as error:
        raise Refused(" ".join(error.messages)) from None
    bounded = not getattr(actor, "is_superadmin", actor is None)
    with recording():
        found = {node.name: node for node in Node.objects.filter(name__in=names)}
        for name in names:
            if name not in found:
                found[name] = services.register_node(name=name, domain=domain)
            elif found[name].domain_id != (domain.pk if domain else None) and (domain or bounded):
                raise Refused(f"The node '{name}' is not the tenant's.")
        patches = {found[name].pk: document for name, document in names.items()}
        return patch_components(patches=patches, actor=actor, replace=True) if patches else []


def delete_component(*, node: Node, actor: Any) -> None:
    """Forget a node: sessions go on without it, and the inventory has it no more."""
    with recording():
        _lock_rows([node.pk])
        release([node.pk], f"Deleted by {getattr(actor, 'username', '')}.", timezone.now())
        record_event(
            name="node_deleted",
            area="node",
            subject_id=str(node.pk),
            subject_name=node.name,
            data={"by": getattr(actor, "username", "")},
            domain=node.domain.name if node.domain else "",
        )
        node.delete()
