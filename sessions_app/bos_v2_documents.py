"""The JSON of BOS v2: templates, sessions, components."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from django.db.models import Prefetch, QuerySet

from sessions_app.bos import seconds
from sessions_app.counts import chunks
from sessions_app.models import BootArtifacts, BootSession, Node, NodePhase, SessionTemplate
from sessions_app.prepared import Prepared
from sessions_app.states import OFF_STEPS, LastAction, PhaseName, SessionStatus


def template_document(template: SessionTemplate) -> dict[str, Any]:
    """A session template as it was stored, with name and tenant."""
    return {
        **template.body,
        "name": template.name,
        "tenant": template.domain.name if template.domain else None,
    }


def session_document(session: BootSession) -> dict[str, Any]:
    """A session's record."""
    ended = session.status == SessionStatus.COMPLETE
    return {
        "components": session.components,
        "include_disabled": session.include_disabled,
        "limit": session.limit,
        "name": session.name,
        "operation": session.operation,
        "stage": session.stage,
        "status": {
            "end_time": seconds(session.stopped_at) if ended else None,
            "error": session.error or None,
            "start_time": seconds(session.created_at),
            "status": session.status,
        },
        "template_name": session.template_name,
        "tenant": session.domain.name if session.domain else None,
    }


# -- components -----------------------------------------------------------------------------------

POWERING_ON, POWERING_OFF, CONFIGURING = "powering_on", "powering_off", "configuring"


RELATIONS = ("desired", "staged", "actual", "session", "staged_session")


def with_relations(nodes: QuerySet[Node], *, many: bool = False) -> QuerySet[Node]:
    """What a component's document needs of other tables: joined for one; for `many`, which share most of it,
    each row of those once. A session's list of names is as long as the session is large."""
    if many:
        sessions = BootSession.objects.only("name")
        prefetches = (Prefetch(name, sessions) for name in RELATIONS[3:])
        return nodes.prefetch_related(*RELATIONS[:3], *prefetches)
    texts = (f"{name}__{text}" for name in RELATIONS[3:] for text in ("components", "limit"))
    return nodes.select_related(*RELATIONS).defer(*texts)


def phases_of(nodes: Iterable[Node]) -> dict[int, str]:
    """BOS's phase of each node whose session has something to do for it now, by node id."""
    owners = {node.pk: node.session_id for node in nodes if node.enabled and node.session_id is not None}
    found: dict[int, str] = {}
    for ids in chunks(owners):
        # Whose row it is, is compared here: SQLite would begin a join on it with all rows of the session.
        rows = NodePhase.objects.open().filter(node_id__among=ids).exclude(step="")
        for node_id, session_id, phase, step in rows.values_list(
            "node_id", "session_id", "phase__name", "step"
        ):
            if owners[node_id] == session_id:
                found[node_id] = phase_word(phase, step)
    return found


def phase_word(phase: str, step: str) -> str:
    """BOS's word for where a row of work is; a boot that begins with switching off is powering off."""
    if phase == PhaseName.CONFIGURE:
        return CONFIGURING
    return POWERING_OFF if phase == PhaseName.SHUTDOWN or step in OFF_STEPS else POWERING_ON


def override_of(node: Node) -> str:
    """BOS's status_override."""
    if node.failed:
        return "failed"
    return "on_hold" if node.on_hold else ""


def status_word(phase: str, override: str, action: str, action_failed: bool) -> str:
    """BOS's calculated status (contracts, BOS 4.1)."""
    if override:
        return override
    if phase == POWERING_ON:
        called = action == LastAction.POWERING_ON and not action_failed
        return "power_on_called" if called else "power_on_pending"
    if phase == POWERING_OFF:
        return {
            LastAction.POWERING_OFF_GRACEFULLY: "power_off_gracefully_called",
            LastAction.POWERING_OFF_FORCEFULLY: "power_off_forcefully_called",
        }.get(LastAction(action), "power_off_pending")
    return CONFIGURING if phase == CONFIGURING else "stable"


def component_documents(nodes: Iterable[Node]) -> list[dict[str, Any]]:
    """Components of nodes that were read by `with_relations`."""
    nodes = list(nodes)
    phases = phases_of(nodes)
    return [component_document(node, phases.get(node.pk, "")) for node in nodes]


def component_document(node: Node, phase: str) -> dict[str, Any]:
    """A component's record; `phase` is BOS's word for what is being done to it."""
    override = override_of(node)
    document: dict[str, Any] = {
        "actual_state": {
            "boot_artifacts": _artifacts(node.actual),
            "bss_token": "",
            **_updated(node.actual_at),
        },
        "desired_state": {
            "boot_artifacts": _artifacts(node.desired),
            "bss_token": "",
            "configuration": node.desired_configuration,
            **_updated(node.desired_at),
        },
        "enabled": node.enabled,
        "error": node.error,
        "event_stats": {
            "power_off_forceful_attempts": node.power_off_forceful_attempts,
            "power_off_graceful_attempts": node.power_off_graceful_attempts,
            "power_on_attempts": node.power_on_attempts,
        },
        "id": node.name,
        "last_action": {
            "action": node.last_action or LastAction.NEWLY_DISCOVERED.value,
            "failed": node.last_action_failed,
            **_updated(node.last_action_at),
        },
        "session": node.session.name if node.session else "",
        "staged_state": {
            "boot_artifacts": _artifacts(node.staged),
            "configuration": node.staged_configuration,
            "session": node.staged_session.name if node.staged_session else "",
            **_updated(node.staged_at),
        },
        "status": {
            "phase": phase,
            "status": status_word(phase, override, node.last_action, node.last_action_failed),
            "status_override": override,
        },
    }
    if node.retry_policy is not None:
        document["retry_policy"] = node.retry_policy
    return document


OWN = (
    *(
        "id",
        "name",
        "enabled",
        "on_hold",
        "failed",
        "error",
        "retry_policy",
        "session_id",
        "staged_session_id",
    ),
    *("desired_id", "desired_configuration", "desired_at", "actual_id", "actual_at"),
    *("staged_id", "staged_configuration", "staged_at"),
    *("last_action", "last_action_at", "last_action_failed"),
    *("power_on_attempts", "power_off_graceful_attempts", "power_off_forceful_attempts"),
)
OF_ARTIFACTS = ("kernel", "initrd", "kernel_parameters")
COLUMNS = (
    *OWN,
    *(f"{name}__{column}" for name in RELATIONS[:3] for column in OF_ARTIFACTS),
    *(f"{name}__name" for name in RELATIONS[3:]),
)
ONE = Prepared(lambda node: Node.objects.filter(pk=node).values_list(*COLUMNS), node=int)
DOING = Prepared(
    lambda node, session: (
        NodePhase.objects.open()
        .filter(node_id=node, session_id=session)
        .exclude(step="")
        .values_list("phase__name", "step")
    ),
    node=int,
    session=int,
)


def document_of(node_id: int) -> dict[str, Any]:
    """One component, by two statements that are written once: each node that has booted asks for it."""
    values = dict(zip(COLUMNS, ONE.rows(node=node_id)[0], strict=True))
    node = Node(**{name: values[name] for name in OWN})
    for name in RELATIONS[:3]:
        pk = values[f"{name}_id"]
        columns = {column: values[f"{name}__{column}"] for column in OF_ARTIFACTS}
        setattr(node, name, BootArtifacts(pk=pk, **columns) if pk else None)
    for name in RELATIONS[3:]:
        pk = values[f"{name}_id"]
        setattr(node, name, BootSession(pk=pk, name=values[f"{name}__name"]) if pk else None)
    doing: list[tuple[Any, ...]] = []
    if node.enabled and node.session_id is not None:
        doing = DOING.rows(node=node_id, session=node.session_id)
    return component_document(node, phase_word(*doing[-1]) if doing else "")


NO_ARTIFACTS = {"initrd": "", "kernel": "", "kernel_parameters": ""}


def _artifacts(row: BootArtifacts | None) -> dict[str, str]:
    return dict(NO_ARTIFACTS) if row is None else row.as_document()


def _updated(moment: datetime | None) -> dict[str, str]:
    said = seconds(moment)
    return {"last_updated": said} if said else {}
