"""Take over what HPE's BOS had: templates, components, options, sessions, as its own CLI prints them."""

from __future__ import annotations

import json
import tarfile
import uuid
import zipfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from django.db import transaction

from accounts_app.models import Domain
from events_app.services import followed
from sessions_app import bos_v2_schemas as schemas
from sessions_app import services_bos, services_components
from sessions_app.bos import Problem, check
from sessions_app.bos_v2_documents import component_documents, with_relations
from sessions_app.models import BootSession, Node, SessionTemplate
from sessions_app.models.nodes import canonical_name
from sessions_app.models.options import DEFAULTS
from sessions_app.services import Refused
from sessions_app.states import Operation, SessionStatus

LARGEST = 256 * 1024 * 1024  # bytes of one document
# Sessions have no id that lasts in BOS v2: the same name gives the same id, so importing twice finds it.
SESSION_IDS = uuid.UUID("5d0f6a54-8a0e-4f6e-9d55-6a7b6d4f0b51")


@dataclass
class Report:
    """What was done, by kind and outcome, and what was left out and why."""

    counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def did(self, kind: str, outcome: str) -> None:
        """Count one."""
        self.counts[kind, outcome] += 1


def read(path: Path) -> Iterator[tuple[str, Any]]:
    """Name and document of a JSON file, or of each in a directory, tar or zip archive. Raises ValueError."""
    if path.is_dir():
        for file in sorted(path.rglob("*.json")):
            yield str(file), _parse(str(file), file.read_bytes())
    elif tarfile.is_tarfile(path):
        with tarfile.open(path) as archive:
            for member in archive:
                if member.isfile() and member.name.endswith(".json") and member.size <= LARGEST:
                    content = archive.extractfile(member)
                    assert content is not None  # noqa: S101  (it is a file)
                    yield f"{path}:{member.name}", _parse(member.name, content.read())
    elif zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            for info in archive.infolist():
                if info.filename.endswith(".json") and info.file_size <= LARGEST:
                    yield f"{path}:{info.filename}", _parse(info.filename, archive.read(info))
    else:
        yield str(path), _parse(str(path), path.read_bytes())


def _parse(name: str, text: bytes) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{name} is not JSON: {error}") from None


def kind_of(item: Any) -> str:
    """What one document of a list, or an object by itself, is; "" for nothing of BOS's."""
    if not isinstance(item, dict):
        return ""
    if "boot_sets" in item:
        return "template"
    if "template_name" in item and "operation" in item:
        return "session"
    if "id" in item and {"actual_state", "desired_state", "enabled"} & set(item):
        return "component"
    return "options" if item and set(item) & set(DEFAULTS) else ""


def take_over(
    documents: list[tuple[str, Any]],
    *,
    dry_run: bool,
    actor: Any = None,
    each: Callable[[list[Any]], Iterable[Any]] = iter,
) -> Report:
    """Import everything, in one transaction that a dry run undoes. Repeating it changes nothing.

    It is a background task of `actor`, but for a dry run; `each` may watch the parts go by.
    """
    if dry_run:
        return _take_over(documents, dry_run=True, actor=actor, each=each)
    with followed(kind="import_bos", owner=actor, subject=f"{len(documents)} files") as task:
        report = _take_over(documents, dry_run=False, actor=actor, each=each)
        counts = {f"{kind} {outcome}": count for (kind, outcome), count in sorted(report.counts.items())}
        task.message = ", ".join(f"{count} {what}" for what, count in counts.items()) or "Nothing was found."
        task.result = {"counts": counts, "not_taken_over": report.errors[:100]}
    return report


def _take_over(documents: list[tuple[str, Any]], *, dry_run: bool, actor: Any, each: Any) -> Report:
    report = Report()
    found: dict[str, list[dict[str, Any]]] = {}
    for name, document in documents:
        items = document if isinstance(document, list) else [document]
        for item in items:
            kind = kind_of(item)
            if kind:
                found.setdefault(kind, []).append(item)
            else:
                report.errors.append(f"{name}: this is nothing of BOS's: {json.dumps(item)[:80]}")
    with transaction.atomic():
        ordered = [(kind, item) for kind in ("options", *_IMPORTERS) for item in found.get(kind, [])]
        for kind, item in each(ordered):
            if kind == "options":
                _options(item, report, actor)
            else:
                name, act = _IMPORTERS[kind]
                _guarded(kind, item.get(name, ""), act, item, report, actor)
        transaction.set_rollback(dry_run)
    return report


def _guarded(kind: str, name: str, act: Any, item: dict[str, Any], report: Report, actor: Any) -> None:
    try:
        with transaction.atomic():
            report.did(kind, act(item, report, actor))
    except (Refused, Problem, KeyError) as error:
        said = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        report.errors.append(f"{kind} {name}: {said}")


def _domain(item: dict[str, Any]) -> Domain | None:
    tenant = item.get("tenant")
    return Domain.objects.get_or_create(name=tenant)[0] if tenant else None


def _options(item: dict[str, Any], report: Report, actor: Any) -> None:
    values = {name: value for name, value in item.items() if name in DEFAULTS}
    for name in sorted(set(item) - set(values)):
        report.notes.append(f"option {name} is not known here")
    try:
        check(values, schemas.OPTIONS)
    except Problem as error:
        report.errors.append(f"options: {error}")
        return
    old = services_bos.all_options()
    changed = {name: value for name, value in values.items() if old[name] != value}
    if changed:
        services_bos.set_options(values=changed, actor=actor)
    for name in values:
        report.did("option", "changed" if name in changed else "unchanged")


def _template(item: dict[str, Any], report: Report, actor: Any) -> str:
    name, domain = item["name"], _domain(item)
    body = {key: value for key, value in item.items() if key not in {"name", "tenant", "links"}}
    check(body, schemas.TEMPLATE)
    old = SessionTemplate.objects.filter(name=name, domain=domain).first()
    if old is not None and old.body == services_bos.sanitized(body):
        return "unchanged"
    services_bos.put_template(name=name, body=body, domain=domain, actor=actor)
    return "changed" if old is not None else "created"


def _session(item: dict[str, Any], report: Report, actor: Any) -> str:
    """History only: what is not over there can't be taken over in the middle."""
    name, domain, status = item["name"], _domain(item), item.get("status") or {}
    if BootSession.objects.filter(name=name, domain=domain).exists():
        return "unchanged"
    if status.get("status") != SessionStatus.COMPLETE:
        report.notes.append(f"session {name} is not complete there; end it there, start it anew here")
        return "left out"
    if item["operation"] not in Operation.values:
        raise Refused(f"'{item['operation']}' is not an operation")
    BootSession.objects.create(
        uuid=uuid.uuid5(SESSION_IDS, f"{domain or ''}/{name}"),
        name=name,
        domain=domain,
        operation=item["operation"],
        template=SessionTemplate.objects.filter(name=item["template_name"], domain=domain).first(),
        template_name=item["template_name"],
        limit=item.get("limit") or "",
        stage=item.get("stage") or False,
        include_disabled=item.get("include_disabled") or False,
        status=SessionStatus.COMPLETE,
        error=status.get("error") or "",
        created_at=services_bos.moment(status["start_time"]),
        stopped_at=services_bos.moment(status.get("end_time") or status["start_time"]),
        total_nodes=len([node for node in (item.get("components") or "").split(",") if node]),
        components=item.get("components") or "",
    )
    return "created"


KEPT = ("actual_state", "desired_state", "staged_state", "error", "retry_policy")


def _component(item: dict[str, Any], report: Report, actor: Any) -> str:
    """State is taken over, work is not: nothing is enabled, no session owns a node by an import."""
    wanted = {key: item[key] for key in KEPT if item.get(key) is not None}
    for state in ("actual_state", "desired_state", "staged_state"):
        if state in wanted:
            dropped = {"bss_token", "last_updated", "session"}
            wanted[state] = {key: value for key, value in wanted[state].items() if key not in dropped}
    check({"id": item["id"], **wanted}, schemas.COMPONENT_BODY)
    node = with_relations(Node.objects.filter(name=canonical_name(item["id"]))).first()
    if node is not None:
        if node.session_id is not None:
            report.notes.append(f"component {node.name} belongs to session {node.session} here")
            return "left out"
        here = component_documents([node])[0]
        if all(_same(here.get(key), wanted[key]) for key in wanted):
            return "unchanged"
    services_components.put_components(documents={item["id"]: wanted}, domain=None, actor=actor)
    return "changed" if node is not None else "created"


def _same(here: Any, wanted: Any) -> bool:
    if isinstance(wanted, dict):
        return isinstance(here, dict) and all(_same(here.get(key), wanted[key]) for key in wanted)
    return bool(here == wanted)


# In the order in which they need each other: where the name stands, what takes one over.
_IMPORTERS: dict[str, tuple[str, Any]] = {
    "template": ("name", _template),
    "session": ("name", _session),
    "component": ("id", _component),
}
