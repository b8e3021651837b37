"""What BOS's doors ask for beyond starting sessions: templates, components, options, staged sessions."""

from __future__ import annotations

from typing import Any

from django.db import transaction

from accounts_app.models import Domain
from events_app.services import record_event, recording
from sessions_app.limit import lists_of
from sessions_app.models import BosOptions, SessionTemplate
from sessions_app.models.nodes import XNAME, canonical_name
from sessions_app.services import Refused

ARCH = "X86"  # of boot sets that name none


def put_template(*, name: str, body: dict[str, Any], domain: Domain | None, actor: Any) -> SessionTemplate:
    """Create or replace a template. Raises Refused for boot sets that no session could use."""
    body = sanitized(body)
    with recording():
        template, created = SessionTemplate.objects.update_or_create(
            name=name, domain=domain, defaults={"body": body}
        )
        record_event(**_told("template_created" if created else "template_updated", template, actor))
    return template


def patch_template(*, template: SessionTemplate, patch: dict[str, Any], actor: Any) -> SessionTemplate:
    """Merge into a template: its own fields, `cfs`, and each boot set's fields. Raises Refused."""
    with recording():
        template = (
            SessionTemplate.objects.select_for_update(of=("self",))
            .select_related("domain")
            .get(pk=template.pk)
        )
        template.body = sanitized(_merged(template.body, patch))
        template.save(update_fields=["body", "updated_at"])
        record_event(**_told("template_updated", template, actor))
    return template


def delete_template(*, template: SessionTemplate, actor: Any) -> None:
    """Forget a template; sessions that have begun keep what they froze."""
    with recording():
        record_event(**_told("template_deleted", template, actor))
        template.delete()


def _told(name: str, template: SessionTemplate, actor: Any) -> dict[str, Any]:
    return {
        "name": name,
        "area": "template",
        "subject_id": template.name,
        "subject_name": template.name,
        "data": {"by": getattr(actor, "username", "")},
        "domain": template.domain.name if template.domain else "",
    }


def _merged(old: dict[str, Any], patch: dict[str, Any]) -> dict[str, Any]:
    new = {**old, **patch}
    if "cfs" in patch and "cfs" in old:
        new["cfs"] = {**old["cfs"], **patch["cfs"]}
    if "boot_sets" in patch:
        sets = dict(old.get("boot_sets") or {})
        for name, boot_set in patch["boot_sets"].items():
            sets[name] = {**sets.get(name, {}), **boot_set}
        new["boot_sets"] = sets
    return new


def sanitized(body: dict[str, Any]) -> dict[str, Any]:
    """The body as it is stored: names in their canonical form, empty `cfs` and the boot sets' own names
    left out, architecture filled in (contracts, BOS 2.2). Raises Refused."""
    found = {key: value for key, value in body.items() if key != "cfs" or value.get("configuration")}
    options = BosOptions.current()
    found["boot_sets"] = {
        name: _sanitized_set(name, boot_set, reject_nids=options["reject_nids"])
        for name, boot_set in (body.get("boot_sets") or {}).items()
    }
    return found


def _sanitized_set(name: str, boot_set: dict[str, Any], *, reject_nids: bool) -> dict[str, Any]:
    if boot_set.get("name", name) != name:
        raise Refused(f"boot_sets key ({name}) does not match 'name' field of boot set ({boot_set['name']})")
    if "path" not in boot_set or "type" not in boot_set:
        raise Refused(f"Boot set '{name}' needs path and type.")
    if not any(lists_of(boot_set)):
        raise Refused(
            f"boot set '{name}': No non-empty hardware specifier field provided "
            "(node_groups, node_list, node_roles_groups)"
        )
    found = {key: value for key, value in boot_set.items() if key != "name"}
    if not found.get("cfs", {}).get("configuration"):
        found.pop("cfs", None)
    if found.get("node_list"):
        found["node_list"] = [_canonical(node) for node in found["node_list"]]
        nids = [node for node in found["node_list"] if node.startswith("nid")]
        if nids and reject_nids:
            raise Refused(f"boot set '{name}': reject_nids: node list names NIDs: {', '.join(nids[:5])}")
    found.setdefault("arch", ARCH)
    return found


def _canonical(name: str) -> str:
    """An xname in canonical form; what is none stays as it is (the session leaves it out and says so)."""
    return canonical_name(name) if XNAME.fullmatch(name) else name.strip().lower()


def set_options(*, values: dict[str, Any], actor: Any) -> dict[str, Any]:
    """Change options; return all. `values` are checked by the door."""
    with transaction.atomic():
        row, _ = BosOptions.objects.select_for_update().get_or_create(pk=1)
        row.values = {**row.values, **values}
        row.save()
        record_event(
            name="options_changed",
            area="options",
            data={"by": getattr(actor, "username", ""), "changed": sorted(values)},
        )
    return BosOptions.current()
