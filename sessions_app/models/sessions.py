"""Session templates; sessions, their boot sets, phases, and each node in each phase."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Self

from django.db import models
from django.utils import timezone

from accounts_app.models import ApiKey, Domain, OwnedQuerySet, User
from events_app.models import BackgroundTask, Lifecycle, LifecycleQuerySet
from sessions_app.models.nodes import BootArtifacts, Node
from sessions_app.states import (
    CATEGORY_MOVES,
    OPEN,
    SESSION_MOVES,
    ByHand,
    Category,
    Operation,
    PhaseName,
    SessionResult,
    SessionStatus,
    Step,
)


class SessionTemplate(models.Model):
    """What to boot where: BOS's document, kept as it was given."""

    domain = models.ForeignKey(Domain, null=True, blank=True, on_delete=models.CASCADE)
    name = models.CharField(max_length=127)
    body = models.JSONField(default=dict)  # description, enable_cfs, cfs, boot_sets
    created_at = models.DateTimeField(default=timezone.now)
    updated_at = models.DateTimeField(auto_now=True)

    objects = OwnedQuerySet.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["domain", "name"], name="template_name_in_domain"),
            # SQLite and PostgreSQL before 15 take two nulls for different: the untenanted need their own.
            models.UniqueConstraint(
                fields=["name"], name="template_name_untenanted", condition=models.Q(domain=None)
            ),
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def boot_sets(self) -> dict[str, dict[str, Any]]:
        """Boot set by name."""
        return self.body.get("boot_sets") or {}

    def configuration_of(self, boot_set: dict[str, Any]) -> str:
        """The boot set's configuration, else the template's; none where it is switched off."""
        if not self.body.get("enable_cfs", True):
            return ""
        for place in (boot_set, self.body):
            name = (place.get("cfs") or {}).get("configuration")
            if name:
                return name
        return ""


class BootSessionQuerySet(OwnedQuerySet, LifecycleQuerySet):  # type: ignore[override]
    """Sessions: moved by `move`, seen by `visible_to`."""

    def by_template(self) -> Self:
        """Those that BOS knows: without what people did by hand."""
        return self.filter(by_hand=False)


class BootSession(Lifecycle):
    """One operation on a frozen set of nodes. BOS v1 and v2 are two views of it."""

    TRANSITIONS = SESSION_MOVES

    uuid = models.UUIDField(unique=True)  # BOS v1's id
    name = models.CharField(max_length=127)  # BOS v2's
    domain = models.ForeignKey(Domain, null=True, blank=True, on_delete=models.CASCADE)
    operation = models.CharField(max_length=16, choices=[*Operation.choices, *ByHand.choices])
    # A person's action on nodes; BOS does not see it.
    by_hand = models.BooleanField("power by hand", default=False)
    network_boot = models.BooleanField(default=True)  # who is switched on boots from the network once
    template = models.ForeignKey(SessionTemplate, null=True, blank=True, on_delete=models.SET_NULL)
    template_name = models.CharField(max_length=127)
    limit = models.TextField(blank=True)
    stage = models.BooleanField(default=False)
    include_disabled = models.BooleanField(default=False)
    status = models.CharField(max_length=16, choices=SessionStatus, default=SessionStatus.PENDING)
    result = models.CharField(max_length=16, choices=SessionResult, blank=True, default=SessionResult.NONE)
    error = models.TextField(blank=True)  # why it could not be set up, or why it ended early
    owner = models.ForeignKey(User, null=True, blank=True, on_delete=models.SET_NULL)
    access_key = models.CharField(max_length=64, blank=True)
    key = models.ForeignKey(ApiKey, null=True, blank=True, on_delete=models.SET_NULL, related_name="+")
    background_task = models.ForeignKey(BackgroundTask, null=True, blank=True, on_delete=models.SET_NULL)
    created_at = models.DateTimeField(default=timezone.now)
    acted_at = models.DateTimeField(null=True, blank=True)  # first power action
    booted_at = models.DateTimeField(null=True, blank=True)  # every boot set has booted what it could
    stopped_at = models.DateTimeField(null=True, blank=True)
    cancel_requested_at = models.DateTimeField(null=True, blank=True)
    total_nodes = models.IntegerField(default=0)
    open_nodes = models.IntegerField(default=0)  # not yet succeeded, failed or excluded
    taken_over = models.IntegerField(default=0)  # nodes that newer sessions took
    components = models.TextField(blank=True)  # BOS v2: the frozen set, comma-separated
    status_deleted = models.BooleanField(default=False)  # BOS v1: its status was deleted by hand

    objects = models.Manager.from_queryset(BootSessionQuerySet)()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["domain", "name"], name="session_name_in_domain"),
            # SQLite and PostgreSQL before 15 take two nulls for different: the untenanted need their own.
            models.UniqueConstraint(
                fields=["name"], name="session_name_untenanted", condition=models.Q(domain=None)
            ),
        ]
        indexes = [models.Index(fields=["status", "created_at"], name="session_status")]

    def __str__(self) -> str:
        return f"session {self.name}"

    @property
    def title(self) -> str:
        """What it is, for a sentence: `Session NAME`, or the action and how many nodes it is on."""
        if not self.by_hand:
            return f"Session {self.name}"
        nodes = "node" if self.total_nodes == 1 else "nodes"
        return f"{ByHand(self.operation).label.capitalize()}, {self.total_nodes:,} {nodes}"

    @property
    def what(self) -> str:
        """What it does, as lists say it."""
        if self.by_hand:
            return f"by hand: {ByHand(self.operation).label}"
        return f"{self.operation} · {self.template_name}"

    @property
    def api_path(self) -> str:
        """Where the API has it; BOS does not see what is done by hand."""
        return f"/api/v1/sessions/{self.uuid}/" if self.by_hand else f"/apis/bos/v2/sessions/{self.name}"

    def event(self, name: str, **data: Any) -> dict[str, Any]:
        """Keywords of `record_event` for this session, in the documented form (seed 004).

        What is done by hand is no session to those who read the documented stream: its events are of
        nodes, `power_…` where a session's are `session_…`.
        """
        if self.by_hand:
            return {
                "name": name.replace("session_", "power_"),
                "area": "node",
                "subject_id": str(self.uuid),
                "subject_name": self.name,
                "data": {"action": self.operation, "reason": "", **data},
                "domain": self.domain.name if self.domain_id and self.domain else "",
                "access_key": self.access_key,
                "user_id": self.owner_id,
            }
        return {
            "name": name,
            "area": "session",
            "subject_id": str(self.uuid),
            "subject_name": self.name,
            "data": {
                "sessionId": str(self.uuid),
                "sessionName": self.name,
                "ownerAccessKey": self.access_key,
                "reason": "",
                "template": self.template_name,
                **data,
            },
            "domain": self.domain.name if self.domain_id and self.domain else "",
            "access_key": self.access_key,
            "user_id": self.owner_id,
        }

    def describe_move(self, old: str, new: str) -> dict[str, Any] | None:
        """session_preparing when its nodes become its own, session_terminated at the end."""
        if new == SessionStatus.RUNNING and old == SessionStatus.PENDING:
            return self.event("session_preparing")
        if new == SessionStatus.RUNNING:
            return self.event("session_preparing", reason="retry")
        succeeded = self.result == SessionResult.SUCCEEDED
        return self.event(
            "session_terminated",
            reason=self.result_reason,
            result="SUCCESS" if succeeded else "FAILURE",
        )

    @property
    def result_reason(self) -> str:
        """The end in Backend.AI's words for `reason` (contracts, events 1.5)."""
        return {
            SessionResult.SUCCEEDED: "task-finished",
            SessionResult.FAILED: "task-failed",
            SessionResult.CANCELLED: "user-requested",
            SessionResult.ERROR: "failed-to-start",
            SessionResult.SUPERSEDED: "force-terminated",
        }.get(SessionResult(self.result), "")


class BootSet(models.Model):
    """One boot set of a session, frozen from the template."""

    session = models.ForeignKey(BootSession, on_delete=models.CASCADE, related_name="boot_sets")
    name = models.CharField(max_length=127)
    position = models.IntegerField()
    artifacts = models.ForeignKey(BootArtifacts, null=True, on_delete=models.PROTECT, related_name="+")
    configuration = models.CharField(max_length=127, blank=True)
    node_count = models.IntegerField(default=0)
    started_at = models.DateTimeField(null=True, blank=True)
    stopped_at = models.DateTimeField(null=True, blank=True)
    status_deleted = models.BooleanField(default=False)  # BOS v1: its status was deleted by hand

    class Meta:
        constraints = [models.UniqueConstraint(fields=["session", "name"], name="boot_set_name_in_session")]
        ordering = ["position"]

    def __str__(self) -> str:
        return f"{self.name} of {self.session}"


class Phase(models.Model):
    """One phase of a boot set. The counters are moved with the rows that they count."""

    boot_set = models.ForeignKey(BootSet, on_delete=models.CASCADE, related_name="phases")
    name = models.CharField(max_length=16, choices=PhaseName)
    position = models.IntegerField()
    following = models.ForeignKey("self", null=True, on_delete=models.SET_NULL, related_name="+")
    not_started = models.IntegerField(default=0)
    in_progress = models.IntegerField(default=0)
    succeeded = models.IntegerField(default=0)
    failed = models.IntegerField(default=0)
    excluded = models.IntegerField(default=0)
    turning_off = models.IntegerField(default=0)  # of those in a boot phase, how many are on the way down
    started_at = models.DateTimeField(null=True, blank=True)
    stopped_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["boot_set", "name"], name="phase_name_in_boot_set")]
        ordering = ["boot_set", "position"]

    def __str__(self) -> str:
        return f"{self.name} of {self.boot_set}"


class NodePhaseQuerySet(models.QuerySet["NodePhase"]):
    """The rows of work."""

    def due(self, now: datetime) -> NodePhaseQuerySet:
        """What may be claimed now. A claimed row is due again when its claim lapses."""
        return self.filter(due_at__lte=now)

    def open(self) -> NodePhaseQuerySet:
        """Neither succeeded nor failed nor excluded."""
        return self.filter(category__in=OPEN)

    def unfinished(self) -> NodePhaseQuerySet:
        """Open rows of nodes that go on: one that failed is over, and its later phases stay not started."""
        failed = NodePhase.objects.filter(
            session=models.OuterRef("session"), node=models.OuterRef("node"), category=Category.FAILED
        )
        return self.open().filter(~models.Exists(failed))

    def of_session(self, session_id: int) -> NodePhaseQuerySet:
        """All rows of a session."""
        return self.filter(session_id=session_id)

    def move(self, category: str, **values: Any) -> int:
        """Move those of these rows that may become `category`; return how many did.

        The only writer of a category. Counters of the phases are the caller's, in the same transaction.
        """
        sources = [old for old, targets in CATEGORY_MOVES.items() if category in targets] + [category]
        return self.filter(category__in=sources).update(category=category, **values)


class NodePhase(models.Model):
    """One node in one phase: the row of work.

    `due_at` says when something is to be done, null when nothing is. Who works on it has written a `claim`
    number and pushed `due_at` to the claim's end, so a row whose worker died is due again by itself.
    """

    session = models.ForeignKey(
        BootSession, on_delete=models.CASCADE, related_name="node_phases", db_index=False
    )
    phase = models.ForeignKey(Phase, on_delete=models.CASCADE, related_name="node_phases")
    node = models.ForeignKey(Node, on_delete=models.CASCADE, related_name="phases")
    category = models.CharField(max_length=16, choices=Category, default=Category.NOT_STARTED)
    step = models.CharField(max_length=24, choices=Step, blank=True, default=Step.NONE)
    step_at = models.DateTimeField(null=True, blank=True)  # when this step was entered
    due_at = models.DateTimeField(null=True, blank=True)
    claim = models.BigIntegerField(null=True, blank=True)
    claimed_until = models.DateTimeField(null=True, blank=True)
    attempts = models.IntegerField(default=0)  # failed tries of the present action
    error = models.TextField(blank=True)
    started_at = models.DateTimeField(null=True, blank=True)
    stopped_at = models.DateTimeField(null=True, blank=True)

    objects = NodePhaseQuerySet.as_manager()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["phase", "node"], name="node_once_in_phase")]
        indexes = [
            # Serves a session's nodes, and one of them. Not one index for each: SQLite, which keeps no
            # statistics here, would then look for a node's rows among all of its session's.
            models.Index(fields=["session", "node"], name="node_phase_session"),
            # Serves the claim: due rows, oldest first.
            models.Index(fields=["due_at"], name="node_phase_due", condition=models.Q(due_at__isnull=False)),
            # Serves a phase's categories.
            models.Index(fields=["phase", "category"], name="node_phase_category"),
            # Serves a session's error summary from the index alone: only rows that count there are in it.
            models.Index(
                fields=["session", "error", "id", "category"],
                name="node_phase_error",
                condition=~models.Q(error="") & ~models.Q(category="excluded"),
            ),
            # Serves the look at claims in flight when nodes change hands.
            models.Index(
                fields=["claimed_until"],
                name="node_phase_claimed",
                condition=models.Q(claimed_until__isnull=False),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.node} in {self.phase}"
