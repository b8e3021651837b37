"""What BOS's doors ask for beyond starting sessions: templates, components, options, staged sessions."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from django.core.exceptions import ValidationError
from django.db import transaction

from accounts_app.models import Domain
from events_app.services import record_event, recording
from sessions_app import services, upkeep
from sessions_app.limit import lists_of
from sessions_app.models import BootImage, BootSession, BosOptions, SessionTemplate
from sessions_app.models.nodes import canonical_name
from sessions_app.models.options import DEFAULTS
from sessions_app.services import Refused
from sessions_app.states import Operation, SessionStatus

ARCH = "X86"  # of boot sets that name none


def put_template(
    *, name: str, body: dict[str, Any], domain: Domain | None, actor: Any, strict: bool = True
) -> SessionTemplate:
    """Create or replace a template. Raises Refused for boot sets that no session could use, unless they are
    not `strict`ly wanted (BOS v1)."""
    body = sanitized(body, strict=strict)
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


def sanitized(body: dict[str, Any], *, strict: bool = True) -> dict[str, Any]:
    """The body as it is stored: names in their canonical form, empty `cfs` and the boot sets' own names
    left out, architecture filled in (contracts, BOS 2.2). Raises Refused."""
    found = {key: value for key, value in body.items() if key != "cfs" or value.get("configuration")}
    options = BosOptions.current()
    found["boot_sets"] = {
        name: _sanitized_set(name, boot_set, reject_nids=options["reject_nids"], strict=strict)
        for name, boot_set in (body.get("boot_sets") or {}).items()
    }
    return found


def _sanitized_set(name: str, boot_set: dict[str, Any], *, reject_nids: bool, strict: bool) -> dict[str, Any]:
    if boot_set.get("name", name) != name:
        raise Refused(f"boot_sets key ({name}) does not match 'name' field of boot set ({boot_set['name']})")
    if "path" not in boot_set or "type" not in boot_set:
        raise Refused(f"Boot set '{name}' needs path and type.")
    if strict and not any(lists_of(boot_set)):
        raise Refused(
            f"boot set '{name}': No non-empty hardware specifier field provided "
            "(node_groups, node_list, node_roles_groups)"
        )
    found = {key: value for key, value in boot_set.items() if key != "name"}
    if not found.get("cfs", {}).get("configuration"):
        found.pop("cfs", None)
    if found.get("node_list"):
        found["node_list"] = [_canonical(name, node) for node in found["node_list"]]
        nids = nids_of(found)
        if nids and reject_nids:
            raise Refused(f"boot set '{name}': reject_nids: node list names NIDs: {', '.join(nids[:5])}")
    found.setdefault("arch", ARCH)
    return found


def nids_of(boot_set: dict[str, Any]) -> list[str]:
    """Names in the node list that look like node numbers, which BOS does not know."""
    return [node for node in boot_set.get("node_list") or [] if node.startswith("nid")]


def _canonical(boot_set: str, name: str) -> str:
    """A node's name in canonical form. A template may name nodes that do not exist yet (its session leaves
    them out and says so), but nothing that begins like an xname and is none."""
    try:
        return canonical_name(name.strip())
    except ValidationError as error:
        raise Refused(f"boot set '{boot_set}': {' '.join(error.messages)}") from None


# -- whether a template could be used --------------------------------------------------------------

IMS_PATH = "s3://boot-images/"


def check_template(*, template: SessionTemplate, operation: str) -> list[str]:
    """Warnings about using this template; raises Refused with the first error, in the original's form.

    A shutdown needs no image, so nothing is asked about it (contracts, BOS 2.2, 2.3).
    """
    options = BosOptions.current()
    if not template.boot_sets:
        raise Refused(f"Session template '{template.name}' has no boot sets.")
    warnings = []
    for name, boot_set in template.boot_sets.items():
        prefix = f"Session template: '{template.name}' boot set: '{name}':"
        if not any(lists_of(boot_set)):
            raise Refused(f"{prefix} none of node_groups, node_list, node_roles_groups is given")
        nids = nids_of(boot_set)
        if nids and options["reject_nids"]:
            raise Refused(f"{prefix} node list names NIDs: {', '.join(nids[:5])}")
        if nids:
            warnings.append(f"{prefix} node list names NIDs: {', '.join(nids[:5])}")
        if operation == Operation.SHUTDOWN:
            continue
        warnings += [f"{prefix} {said}" for said in _image_warnings(boot_set)]
        errors = _image_errors(boot_set, options)
        if errors and options["ims_images_must_exist"]:
            raise Refused(f"{prefix} {errors[0]}")
        warnings += [f"{prefix} {said}" for said in errors]
    return warnings


def _image_warnings(boot_set: dict[str, Any]) -> list[str]:
    provider = boot_set.get("rootfs_provider", "")
    return [f"rootfs_provider '{provider}' is not known"] if provider not in {"", "sbps"} else []


def _image_errors(boot_set: dict[str, Any], options: dict[str, Any]) -> list[str]:
    """What is wrong with the image: unknown where all must be known, or of another architecture."""
    path = boot_set["path"]
    image = BootImage.objects.filter(path=path).first()
    if image is None:
        wanted = path.startswith(IMS_PATH) or options["ims_images_must_exist"]
        return [f"image '{path}' is not registered"] if wanted else []
    arch = boot_set.get("arch") or ARCH
    if image.arch not in {arch, "Unknown", ""}:
        raise Refused(f"Boot set needs architecture {arch}, image '{path}' is of {image.arch}.")
    return []


# -- sessions beyond starting -----------------------------------------------------------------------


def delete_session(*, session: BootSession, actor: Any) -> None:
    """Forget a session. One that is not over is cancelled first: nothing drives its nodes any more."""
    with recording():
        if session.status != SessionStatus.COMPLETE:
            services.cancel_session(session=session, actor=actor, reason="The session was deleted.")
        upkeep.remove_session(session=session, actor=actor)


def patch_session(*, session: BootSession, patch: dict[str, Any], actor: Any) -> BootSession:
    """BOS's internal write: replaces `components`, merges `status`. Status `complete` ends a session that
    runs, as a cancel. Raises Refused for a status that it can't get, and for times that are none."""
    status = patch.get("status") or {}
    with recording():
        wanted = status.get("status", session.status)
        if wanted != session.status:
            if wanted != SessionStatus.COMPLETE:
                raise Refused(f"A session that is {session.status} can't become {wanted} by hand.")
            why = status.get("error") or f"Ended by {getattr(actor, 'username', '')}."
            session = services.cancel_session(session=session, actor=actor, reason=why)
        values: dict[str, Any] = {}
        if "components" in patch:
            values["components"] = patch["components"]
        if "error" in status:
            values["error"] = status["error"] or ""
        if "start_time" in status:
            values["created_at"] = moment(status["start_time"])
        if status.get("end_time") and session.status == SessionStatus.COMPLETE:
            values["stopped_at"] = moment(status["end_time"])
        if values:
            BootSession.objects.filter(pk=session.pk).update(**values)
            session.refresh_from_db()
    return session


def moment(text: str) -> datetime:
    """A time in any of BOS's forms; without a zone it is UTC. Raises Refused."""
    try:
        found = datetime.fromisoformat(text)
        return found if found.tzinfo else found.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        raise Refused(f"'{text}' is not a time.") from None


# -- options ----------------------------------------------------------------------------------------


def set_options(*, values: dict[str, Any], actor: Any) -> dict[str, Any]:
    """Change options; return all. `values` are checked by the door; unknown names are dropped."""
    values = {name: value for name, value in values.items() if name in DEFAULTS}
    with transaction.atomic():
        row, _ = BosOptions.objects.select_for_update().get_or_create(pk=1)
        row.values = {**row.values, **values}
        row.save()
        record_event(
            name="options_changed",
            area="options",
            data={"by": getattr(actor, "username", ""), "changed": sorted(values)},
        )
        transaction.on_commit(upkeep.apply_logging_level)
    return all_options()


def all_options() -> dict[str, Any]:
    """All options as they stand now, whatever this process remembers."""
    return {**DEFAULTS, **BosOptions.stored()}
