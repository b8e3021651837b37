"""What people ask for: nodes, sessions started, cancelled, retried; and what nodes ask for and report."""

from __future__ import annotations

import re
import secrets as random
import uuid
from collections import defaultdict
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.db import IntegrityError, connection, transaction
from django.db.models import F, Q
from django.utils import timezone

from accounts_app import secrets
from accounts_app.limits import tally
from accounts_app.models import ApiKey, Domain, User
from events_app.services import record_event, recording, start_background_task, wake
from sessions_app import drivers, endings, setup, steps
from sessions_app.counts import Counts
from sessions_app.limit import LimitError, parse_limit
from sessions_app.locks import lock_ownership
from sessions_app.models import (
    Bmc,
    BootArtifacts,
    BootSession,
    BootToken,
    BosOptions,
    Node,
    NodeGroup,
    NodePhase,
    SessionTemplate,
)
from sessions_app.models.nodes import canonical_mac, canonical_name
from sessions_app.models.options import age
from sessions_app.states import (
    LOCATING,
    OPEN,
    ByHand,
    Category,
    Operation,
    PhaseName,
    SessionResult,
    SessionStatus,
    Step,
    first_step,
)
from sessions_app.targets import Chosen, choose

# For so long the address that fetched a node's script is that node's: its retries come every 30 s.
SCRIPT_HELD = timedelta(seconds=90)
NAME = re.compile(r"[a-zA-Z0-9](?:[-._a-zA-Z0-9]{0,125}[a-zA-Z0-9])?")  # contracts, BOS 2.1


class Refused(ValueError):
    """What was asked for can't be done; the message is one sentence for whoever asked."""


class UnknownTemplate(Refused):
    """The session template does not exist."""


class NameTaken(Refused):
    """A session of this name exists already."""


# -- inventory ----------------------------------------------------------------------------------------

EVERYBODYS = "*"  # the domain of events that only superadmins hear; no domain's name, and not that of none


def register_bmc(
    *,
    name: str,
    kind: str,
    address: str,
    settings: dict[str, Any],
    domain: Domain | None = None,
    actor: Any = None,
) -> Bmc:
    """Create or update a BMC. `settings` holds all declared fields of the driver, secrets too; a secret that
    is left out keeps its stored value. Without `domain` it is the superadmins'. Raises Refused."""
    with recording():
        bmc = Bmc.objects.filter(name=name).first() or Bmc(name=name)
        kept = bmc.secrets() if bmc.pk and bmc.kind == kind else {}
        try:
            public, secret = drivers.split_settings(kind, {**kept, **settings})
        except ValueError as error:
            raise Refused(str(error)) from None
        bmc.kind, bmc.address, bmc.settings, bmc.domain = kind, address.rstrip("/"), public, domain
        bmc.set_secrets(secret)
        bmc.look_at = timezone.now()  # whether it answers there, and to these credentials
        bmc.save()
        record_event(
            name="bmc_registered",
            area="node",
            subject_id=str(bmc.pk),
            subject_name=bmc.name,
            data={"by": getattr(actor, "username", "")},
            domain=bmc.domain.name if bmc.domain else EVERYBODYS,
        )
    return bmc


def rotate_credentials(*, bmcs: list[Bmc], given: dict[str, Any], actor: Any) -> None:
    """Keep new credentials of these BMCs, and ask each at once whether it takes them.

    Raises Refused, with the name of the BMC whose driver has no such setting; then nothing was changed.
    """
    with recording():
        for bmc in bmcs:
            try:
                settings = {**bmc.settings, **given}
                register_bmc(
                    name=bmc.name,
                    kind=bmc.kind,
                    address=bmc.address,
                    settings=settings,
                    domain=bmc.domain,
                    actor=actor,
                )
            except Refused as error:
                raise Refused(f"{bmc.name}: {error}") from None
            record_event(
                name="bmc_credentials_rotated",
                area="node",
                subject_id=str(bmc.pk),
                subject_name=bmc.name,
                data={"by": getattr(actor, "username", "")},
                domain=bmc.domain.name if bmc.domain else EVERYBODYS,
            )
    wake(steps.look_at_bmcs)


def register_node(
    *,
    name: str,
    bmc: Bmc | None = None,
    groups: list[NodeGroup] | None = None,
    domain: Domain | None = None,
    mac: str = "",
    **fields: Any,
) -> Node:
    """Create or update a node by its name; `fields` are the model's own. Raises ValidationError."""
    name = canonical_name(name)
    values = {"bmc": bmc, "domain": domain, "mac": canonical_mac(mac) if mac else None, **fields}
    with recording():
        node, created = Node.objects.update_or_create(name=name, defaults=values)
        if groups is not None:
            node.groups.set(groups)
        if created:
            record_event(
                name="node_registered",
                area="node",
                subject_id=str(node.pk),
                subject_name=name,
                domain=domain.name if domain else "",
            )
    return node


# -- sessions -----------------------------------------------------------------------------------------


def preview_session(
    *,
    template: SessionTemplate,
    limit: str = "",
    include_disabled: bool = False,
    domain: Domain | None = None,
) -> Chosen:
    """Which nodes a session would have, and which are left out and why. Raises Refused."""
    if not template.boot_sets:
        raise Refused(f"Session template '{template.name}' has no boot sets.")
    try:
        return choose(template.boot_sets, limit=limit, include_disabled=include_disabled, domain=domain)
    except LimitError as error:
        raise Refused(str(error)) from None


def find_template(*, name: str, domain: Domain | None) -> SessionTemplate:
    """The template of a tenant (None: the untenanted). Raises UnknownTemplate."""
    template = SessionTemplate.objects.filter(name=name, domain=domain).first()
    if template is None:
        raise UnknownTemplate(f"Session template '{name}' does not exist.")
    return template


def start_session(
    *,
    template: SessionTemplate,
    operation: str,
    actor: User | None,
    key: ApiKey | None = None,
    name: str = "",
    limit: str = "",
    stage: bool = False,
    include_disabled: bool = False,
    identity: uuid.UUID | None = None,
) -> BootSession:
    """Accept a session: it is pending until a worker gives it its nodes.

    `identity`: its id, where whoever asks must not start it twice. Raises Refused (bad operation, name or
    limit; no node would be acted on) and NameTaken (its name or id); then nothing was created. An empty
    target is never taken for "all".
    """
    if operation not in Operation.values:
        raise Refused(f"'{operation}' is not an operation: {', '.join(Operation.values)}.")
    if name and not NAME.fullmatch(name):
        raise Refused(f"'{name}' is not a session's name.")
    _check_limit(limit)
    chosen = preview_session(
        template=template, limit=limit, include_disabled=include_disabled, domain=template.domain
    )
    if not chosen.count:
        raise Refused(setup.NO_NODES)
    identity = identity or uuid.uuid4()
    name = name or str(identity)
    try:
        with recording():
            task = start_background_task(
                kind="session",
                owner=actor,
                domain=template.domain.name if template.domain else "",
                subject=name,
                message="Waiting for a worker",
                total=chosen.count,
            )
            session = BootSession.objects.create(
                uuid=identity,
                name=name,
                domain=template.domain,
                operation=operation,
                template=template,
                template_name=template.name,
                limit=limit,
                stage=stage,
                include_disabled=include_disabled,
                owner=actor,
                access_key=key.access_key if key else "",
                key=key,
                background_task=task,
            )
            record_event(**session.event("session_enqueued"))
            wake(steps.start_pending)
    except IntegrityError:
        raise NameTaken(f"Session '{name}' already exists") from None
    return session


def _check_limit(limit: str) -> None:
    options = BosOptions.current()
    try:
        terms = parse_limit(limit)
    except LimitError as error:
        raise Refused(str(error)) from None
    if not terms and options["session_limit_required"]:
        raise Refused("A limit is required: the option session_limit_required is set.")
    nids = [term.name for term in terms if term.name.startswith("nid")]
    if nids and options["reject_nids"]:
        raise Refused(f"The limit names nodes by NID, which is rejected: {', '.join(nids[:5])}.")


def cancel_session(*, session: BootSession, actor: Any, reason: str = "") -> BootSession:
    """End a session now: what is not over is left out, nothing is due any more.

    A request that a worker has begun may still reach its BMC within BEGIN_SECONDS; after that no action
    happens, even with all workers dead, for there is no row that asks for one. Raises InvalidTransition
    where the session is complete.
    """
    with recording():
        # Nobody gives it rows meanwhile, so they can be locked before the session is, as workers do.
        lock_ownership()
        now = timezone.now()
        why = reason or f"Cancelled by {getattr(actor, 'username', None) or 'the system'}."
        setup.exclude_rows(NodePhase.objects.of_session(session.pk), why, now)
        session = BootSession.objects.select_for_update(of=("self",)).get(pk=session.pk)
        session.move_to(
            SessionStatus.COMPLETE,
            result=SessionResult.CANCELLED,
            error=why,
            cancel_requested_at=now,
            stopped_at=now,
        )
        endings.finish_task_of(session, message=why)
        Node.objects.filter(session=session, enabled=True).update(enabled=False)
    return session


def retry_failed(*, session: BootSession, actor: Any, nodes: list[str] | None = None) -> int:
    """Try the failed nodes again, from the phase in which they failed; return how many.

    Touches exactly the failed nodes of the session's frozen set (those among `nodes`, where given) that no
    newer session has taken since and that nobody else is at work with. Raises Refused where there are none.
    """
    with recording():
        lock_ownership()
        now = timezone.now()
        failed = NodePhase.objects.of_session(session.pk).filter(category=Category.FAILED)
        if not session.by_hand:
            failed = failed.filter(node__session=session.pk)
        if nodes is not None:
            failed = failed.filter(node__name__in=nodes)
        # Locked before they are read: whoever asks for the same at the same time finds none failed any more.
        held = list(failed.select_for_update(of=("self",)).order_by("id").values_list("id", flat=True))
        rows: list[Any] = list(
            NodePhase.objects.filter(id__in=held).values(
                "id", "phase_id", "phase__name", "node_id", "node__name"
            )
        )
        if session.operation not in LOCATING | {ByHand.LOOK}:
            busy = setup.held_nodes([row["node_id"] for row in rows], other_than=session.pk)
            rows = [row for row in rows if row["node_id"] not in busy]
        if not rows:
            raise Refused("No failed node of this session can be tried again.")
        counts = Counts()
        by_phase: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for row in rows:
            by_phase[row["phase__name"]].append(row)
            names = [row["node__name"]]
            counts.moved(session.pk, row["phase_id"], Category.FAILED, Category.NOT_STARTED, names)
        for phase, members in by_phase.items():
            NodePhase.objects.filter(id__in=[row["id"] for row in members]).move(
                Category.NOT_STARTED,
                step=first_step(session.operation, phase),
                step_at=now,
                due_at=now,
                attempts=0,
                error="",
                started_at=None,
                stopped_at=None,
            )
        due = NodePhase.objects.filter(id__in=[row["id"] for row in rows])
        setup.wait_for_claims(due, [row["node_id"] for row in rows], now)
        if not session.by_hand:
            Node.objects.filter(id__in=[row["node_id"] for row in rows]).update(
                enabled=True, failed=False, error=""
            )
        counts.write(now)
        _reopen(session, len(rows), actor)
        counts.tell()
    wake(steps.advance_nodes)
    return len(rows)


def _reopen(session: BootSession, count: int, actor: Any) -> None:
    session = BootSession.objects.select_for_update(of=("self",)).get(pk=session.pk)
    session.open_nodes += count
    if session.status == SessionStatus.RUNNING:
        BootSession.objects.filter(pk=session.pk).update(open_nodes=F("open_nodes") + count)
        return
    task = start_background_task(
        kind="session",
        owner=actor if isinstance(actor, User) else session.owner,
        domain=session.domain.name if session.domain else "",
        subject=session.name,
        message=f"Trying {count} failed nodes again",
    )
    session.move_to(
        SessionStatus.RUNNING,
        open_nodes=session.open_nodes,
        background_task=task,
        result=SessionResult.NONE,
        error="",
        stopped_at=None,
        booted_at=None,
        cancel_requested_at=None,
    )


# -- the node's side ----------------------------------------------------------------------------------


def find_booting_node(*, mac: str = "", name: str = "", nid: str = "") -> Node | None:
    """The node that asks for its boot script, by MAC, name or number; None if unknown or malformed."""
    fields = ("name", "nid", "boot_address", "domain__name")
    artifacts = ("desired__kernel", "desired__initrd", "desired__kernel_parameters")
    nodes = Node.objects.select_related("desired", "domain", "token").only(
        *fields, *artifacts, "token__address"
    )
    if mac:
        digits = re.sub(r"[^0-9a-fA-F]", "", mac)
        return nodes.filter(mac=canonical_mac(mac)).first() if len(digits) == 12 else None
    if name:
        return nodes.filter(name=name.lower()).first()
    if nid.isdecimal() and len(nid) < 18:
        return nodes.filter(nid=int(nid)).first()
    return None


class Contested(Exception):
    """Two addresses want to be the same node."""


def issue_boot_token(*, node: Node, artifacts: BootArtifacts, address: str = "") -> str:
    """A token for this boot of the node; the one before stays good, those before it become void.

    A thousand nodes that boot at once all ask for one: this is two statements, in no transaction. Where
    another address was given one just now, an event says so; with MUSTER_BOOT_STRICT it raises Contested.
    """
    token = f"mnt_{random.token_urlsafe(24)}"
    now = timezone.now()
    new = {
        "digest": secrets.digest(token, purpose="node"),
        "artifacts": artifacts,
        "created_at": now,
        "address": address,
    }
    if not _is_first_token(node, new):
        moved = {**new, "previous_digest": F("digest"), "previous_artifacts": F("artifacts")}
        rows = BootToken.objects.filter(node=node)
        if not rows.filter(Q(address=address) | Q(created_at__lt=now - SCRIPT_HELD)).update(**moved):
            other = rows.values_list("address", flat=True).get()
            tell_contested(node=node, address=address, other=other)
            if settings.MUSTER_BOOT_STRICT:
                raise Contested
            rows.update(**moved)
    Node.objects.filter(pk=node.pk).update(script_at=now)
    return token


def _is_first_token(node: Node, new: dict[str, Any]) -> bool:
    """Make the node's token where it has none; False where it has one."""
    if getattr(node, "token", None) is not None:
        return False
    try:
        BootToken(node=node, **new).save(force_insert=True)
    except IntegrityError:  # another request was quicker
        return False
    return True


def tell_contested(*, node: Node, address: str, other: str) -> None:
    """An event, at most one a minute of each node: who asks may ask as often as he likes."""
    if tally.add(f"muster:contested:{node.pk}", 60) > 1:
        return
    with recording():
        record_event(
            name="boot_script_contested",
            area="node",
            subject_id=str(node.pk),
            subject_name=node.name,
            data={"address": address, "other_address": other},
            domain=node.domain.name if node.domain else "",
        )


def is_booting(node: Node) -> bool:
    """Whether a session is bringing this node up just now."""
    return NodePhase.objects.filter(
        node=node, phase__name=PhaseName.BOOT, category__in=OPEN, node__session=F("phase__boot_set__session")
    ).exists()


def report_actual_state(*, token: BootToken) -> None:
    """A node says that it runs what its boot token stands for (contracts, BOS 4.5); repeating is harmless.

    The row of work is locked before the node is written: a worker that holds the row at the moment finds
    the report when it writes (work.write). SQLite's writers follow one another, so there it is enough that
    the node is written first; and no transaction: over several statements a thread keeps the write lock for
    as long as it waits for Python's, and everybody waits for it.
    """
    now = timezone.now()
    node = Node.objects.filter(pk=token.node_id)
    actual = {"actual": token.booted_id, "actual_at": now}
    rows = NodePhase.objects.open().filter(node_id=token.node_id, step__in=(Step.AWAIT_ON, Step.AWAIT_REPORT))
    if connection.features.has_select_for_update:
        with transaction.atomic():
            waiting = list(rows.select_for_update().order_by("id").values_list("id", flat=True))
            node.update(**actual)
            woken = bool(waiting) and NodePhase.objects.filter(id__in=waiting, claim=None).update(due_at=now)
    else:
        node.update(**actual)
        woken = rows.filter(claim=None).update(due_at=now)
    if woken:
        steps.wake_workers()


def token_is_valid(token: BootToken) -> bool:
    """Whether a token may still be used: BOS's nodes repeat their report for as long as they run, so it
    lives on from use to use, and lapses when unused for the time that an actual state is believed."""
    options = BosOptions.current()
    last = max(token.created_at, token.node.actual_at or token.created_at)
    unused = timedelta(seconds=options["max_boot_wait_time"]) + age(options["component_actual_state_ttl"])
    return timezone.now() - last < unused
