"""Nodes, BMCs, groups and sessions as JSON of our own API."""

from __future__ import annotations

from typing import Any, ClassVar

from django.core.exceptions import ValidationError as ModelValidationError
from django.db.models import Q
from rest_framework import serializers

from accounts_app.models import Domain
from accounts_app.strict import Strict, StrictModel
from sessions_app import drivers
from sessions_app.models import Bmc, BootSession, Node, NodeGroup, NodePhase, SessionTemplate
from sessions_app.models.nodes import canonical_mac, canonical_name
from sessions_app.nodeset import fold
from sessions_app.states import ByHand, Operation

REACH = ["reach", "reach_since", "seen_at", "latency", "last_error", "look_at"]


class BmcSerializer(StrictModel):
    """A BMC. `settings` takes the driver's declared fields, secrets too; secrets are never given out."""

    kind = serializers.CharField()
    address = serializers.CharField(default="", allow_blank=True, max_length=255)
    settings = serializers.JSONField(default=dict)
    domain = serializers.SlugRelatedField(
        slug_field="name", queryset=Domain.objects.all(), allow_null=True, required=False
    )
    secrets_set = serializers.SerializerMethodField(help_text="Names of the secrets that are stored.")

    class Meta:
        model = Bmc
        fields = ["name", "kind", "address", "settings", "domain", "secrets_set", "created_at", *REACH]
        read_only_fields = ["created_at", *REACH]
        extra_kwargs: ClassVar[dict[str, Any]] = {"name": {"validators": []}}

    def get_secrets_set(self, bmc: Bmc) -> list[str]:
        """Which secrets are there."""
        return sorted(bmc.secrets())

    def validate_settings(self, values: Any) -> dict[str, Any]:
        """An object; what may be in it, the driver says."""
        if not isinstance(values, dict):
            raise serializers.ValidationError("An object is expected.")
        return values

    def validate_kind(self, kind: str) -> str:
        """Only kinds that this installation knows."""
        known = [name for name, _ in drivers.kinds()]
        if kind not in known:
            raise serializers.ValidationError(f"'{kind}' is not a kind of driver: {', '.join(known)}.")
        return kind


class GroupSerializer(StrictModel):
    """A node group; `nodes` are names."""

    nodes = serializers.SlugRelatedField(
        slug_field="name", many=True, queryset=Node.objects.all(), required=False
    )

    class Meta:
        model = NodeGroup
        fields = ["name", "description", "nodes"]


class NodeSerializer(StrictModel):
    """A node: inventory that may be written, state that is moved by sessions only."""

    bmc = serializers.SlugRelatedField(
        slug_field="name", queryset=Bmc.objects.none(), allow_null=True, default=None
    )
    groups = serializers.SlugRelatedField(
        slug_field="name", many=True, queryset=NodeGroup.objects.all(), required=False
    )
    domain = serializers.SlugRelatedField(
        slug_field="name", queryset=Domain.objects.all(), allow_null=True, default=None
    )
    session = serializers.SerializerMethodField()
    desired = serializers.SerializerMethodField()
    actual = serializers.SerializerMethodField()
    mac = serializers.CharField(allow_blank=True, allow_null=True, default=None)

    class Meta:
        model = Node
        fields = [
            "name", "nid", "mac", "boot_address", "role", "subrole", "arch", "hardware_enabled", "locked",
            "domain", "groups", "bmc", "system", "power_state", "power_at", "located", "session", "enabled",
            "failed", "error", "desired", "actual", "actual_at", "script_at", "last_action", "last_action_at",
        ]  # fmt: skip
        read_only_fields = [
            "power_state", "power_at", "located", "enabled", "failed", "error", "actual_at", "script_at",
            "last_action", "last_action_at",
        ]  # fmt: skip
        extra_kwargs: ClassVar[dict[str, Any]] = {"name": {"validators": []}}

    def get_fields(self) -> dict[str, Any]:
        """A BMC that the user may see can be given to a node; the one that it has can stay."""
        fields: dict[str, Any] = super().get_fields()
        user = getattr(self.context.get("request"), "user", None)
        given = Q(pk__in=Bmc.objects.visible_to(user))
        if isinstance(self.instance, Node):
            given |= Q(pk=self.instance.bmc_id)
        fields["bmc"].queryset = Bmc.objects.filter(given)
        return fields

    def get_session(self, node: Node) -> str | None:
        """Which one owns it."""
        return node.session.name if node.session else None

    def get_desired(self, node: Node) -> dict[str, str] | None:
        """What it should run."""
        return node.desired.as_document() if node.desired else None

    def get_actual(self, node: Node) -> dict[str, str] | None:
        """What it reported to run."""
        return node.actual.as_document() if node.actual else None

    def validate_name(self, name: str) -> str:
        """The canonical form; 400 for what is no node's name."""
        return _checked(canonical_name, name)

    def validate_mac(self, mac: str | None) -> str:
        """The canonical form."""
        return _checked(canonical_mac, mac) if mac else ""


def _checked(function: Any, text: str) -> str:
    try:
        return function(text)
    except ModelValidationError as error:
        raise serializers.ValidationError(error.messages) from None


class PhaseCounts(serializers.Serializer):
    """How many nodes of a phase stand where."""

    boot_set = serializers.CharField()
    name = serializers.CharField()
    not_started = serializers.IntegerField()
    in_progress = serializers.IntegerField()
    succeeded = serializers.IntegerField()
    failed = serializers.IntegerField()
    excluded = serializers.IntegerField()
    started_at = serializers.DateTimeField(allow_null=True)
    stopped_at = serializers.DateTimeField(allow_null=True)


class SessionSerializer(serializers.ModelSerializer):
    """A session as it is."""

    id = serializers.UUIDField(source="uuid")
    domain = serializers.CharField(source="domain.name", default=None, allow_null=True)
    owner = serializers.CharField(source="owner.username", default=None, allow_null=True)
    phases = serializers.SerializerMethodField()

    class Meta:
        model = BootSession
        fields = [
            "id", "name", "domain", "operation", "by_hand", "network_boot", "template_name", "limit", "stage",
            "include_disabled", "status", "result", "error", "owner", "background_task", "created_at",
            "acted_at", "booted_at", "stopped_at", "total_nodes", "open_nodes", "taken_over", "phases",
        ]  # fmt: skip
        read_only_fields = fields

    def get_phases(self, session: BootSession) -> Any:
        """Counters by boot set and phase (PhaseCounts)."""
        rows = [
            {"boot_set": boot_set.name, **{name: getattr(phase, name) for name in COUNTS}}
            for boot_set in session.boot_sets.all()
            for phase in boot_set.phases.all()
        ]
        return PhaseCounts(rows, many=True).data


COUNTS = (
    "name", "not_started", "in_progress", "succeeded", "failed", "excluded", "started_at", "stopped_at",
)  # fmt: skip


class StartSerializer(Strict):
    """What starts a session, or previews one."""

    template = serializers.SlugRelatedField(slug_field="name", queryset=SessionTemplate.objects.none())
    operation = serializers.ChoiceField(choices=Operation.choices)
    name = serializers.CharField(required=False, allow_blank=True, default="")
    limit = serializers.CharField(required=False, allow_blank=True, default="", max_length=524288)
    stage = serializers.BooleanField(required=False, default=False)
    include_disabled = serializers.BooleanField(required=False, default=False)

    def get_fields(self) -> dict[str, Any]:
        """Templates are looked for among those that the user may see."""
        fields: dict[str, Any] = super().get_fields()
        user = getattr(self.context.get("request"), "user", None)
        fields["template"].queryset = SessionTemplate.objects.visible_to(user)
        return fields


class ByHandSerializer(Strict):
    """An action by hand, and on which nodes: `nodes` or `filter`, one of them."""

    action = serializers.ChoiceField(choices=ByHand.choices)
    nodes = serializers.ListField(
        child=serializers.CharField(), required=False, allow_empty=False, help_text="Names or ranges."
    )
    filter = serializers.DictField(
        child=serializers.CharField(allow_blank=True),
        required=False,
        help_text="As in the URL of the node list: nodes, state, role, group, session, bmc.",
    )
    network_boot = serializers.BooleanField(
        default=False, help_text="With on and cycle: boot from the network once."
    )
    busy = serializers.ChoiceField(
        choices=["refuse", "take", "leave"],
        default="refuse",
        help_text="Nodes that a session or another action is at work with: refuse all with 409, take them "
        "out of it, or leave them out of this.",
    )
    dry_run = serializers.BooleanField(default=False, help_text="Only say what it would hit.")
    count = serializers.IntegerField(
        required=False, help_text="Expected number of nodes; 409 where it is another."
    )
    fingerprint = serializers.CharField(
        required=False,
        help_text="Of a dry run: 409 where it would hit anything else by now. This or the count is "
        "required above 100 nodes.",
    )

    def validate(self, values: dict[str, Any]) -> dict[str, Any]:
        """Exactly one way of naming nodes; an empty filter is not taken for all."""
        if ("nodes" in values) == ("filter" in values):
            raise serializers.ValidationError("Give either nodes or a filter.")
        if "filter" in values and not any(values["filter"].values()):
            raise serializers.ValidationError({"filter": ["An empty filter is not taken for all nodes."]})
        return values


class HeldSerializer(serializers.Serializer):
    """A session or action that is at work with some of the nodes."""

    name = serializers.CharField()
    id = serializers.UUIDField(source="uuid")
    by_hand = serializers.BooleanField()
    nodes = serializers.SerializerMethodField()

    def get_nodes(self, held: Any) -> str:
        """Folded."""
        return fold(held.nodes)


class ByHandPlanSerializer(serializers.Serializer):
    """What an action hits; `id` (to be asked for at /api/v1/sessions/) and background task once it began."""

    id = serializers.UUIDField(allow_null=True)
    action = serializers.CharField()
    count = serializers.IntegerField()
    nodes = serializers.CharField(help_text="Folded.")
    left_out = serializers.DictField(child=serializers.CharField())
    held = HeldSerializer(many=True)
    fingerprint = serializers.CharField()
    background_task = serializers.UUIDField(allow_null=True)


class PreviewSerializer(serializers.Serializer):
    """Which nodes a session would have; names are folded (`x1000c0s[0-3]b0n0`)."""

    count = serializers.IntegerField()
    boot_sets = serializers.DictField(child=serializers.CharField())
    left_out = serializers.DictField(child=serializers.CharField())


class RetrySerializer(Strict):
    """Which failed nodes to try again; all of them where `nodes` is left out."""

    nodes = serializers.ListField(child=serializers.CharField(), required=False, allow_empty=False)


class ErrorSerializer(serializers.Serializer):
    """One error message with all nodes that have it."""

    error = serializers.CharField()
    phase = serializers.CharField()
    count = serializers.IntegerField()
    folded = serializers.CharField()
    nodes = serializers.ListField(child=serializers.CharField())


class NodePhaseSerializer(serializers.ModelSerializer):
    """One node in one phase of one session."""

    node = serializers.CharField(source="node.name")
    session = serializers.CharField(source="session.name")
    phase = serializers.CharField(source="phase.name")

    class Meta:
        model = NodePhase
        fields = [
            "session", "node", "phase", "category", "step", "step_at", "attempts", "error", "started_at",
            "stopped_at",
        ]  # fmt: skip
        read_only_fields = fields
