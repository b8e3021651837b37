"""What pages take: filters of the lists, and the form that starts a session."""

from __future__ import annotations

from typing import Any

import django_filters
from django import forms
from django.db.models import F, Q, QuerySet

from sessions_app.models import BootSession, Node, NodeGroup, SessionTemplate
from sessions_app.services import NAME
from sessions_app.states import ByHand, Operation, Reach, SessionResult, SessionStatus

OPERATION_WORDS = {
    Operation.BOOT: "Boot: bring up with the template's image; off first where another one runs",
    Operation.REBOOT: "Reboot: off, then up, whatever runs",
    Operation.SHUTDOWN: "Shut down: off",
    Operation.CONFIGURE: "Configure: apply the configuration, leave power alone",
}

ORDERS = {
    "name": "name",
    "started": "created_at",
    "nodes": "total_nodes",
    "failed": "failed_nodes",
}


class SessionFilter(django_filters.FilterSet):
    """The session list's filters, as they stand in its URL."""

    q = django_filters.CharFilter(method="search")
    status = django_filters.ChoiceFilter(choices=SessionStatus.choices)
    result = django_filters.ChoiceFilter(choices=[choice for choice in SessionResult.choices if choice[0]])
    operation = django_filters.ChoiceFilter(choices=[*Operation.choices, *ByHand.choices])
    owner = django_filters.CharFilter(field_name="owner__username")
    template = django_filters.CharFilter(field_name="template_name")
    order = django_filters.OrderingFilter(fields=[(field, name) for name, field in ORDERS.items()])

    class Meta:
        model = BootSession
        fields: list[str] = []

    def search(self, queryset: QuerySet[Any], name: str, value: str) -> QuerySet[Any]:
        """Name, template, owner, or the beginning of the id."""
        found = Q(name__icontains=value) | Q(template_name__icontains=value)
        found |= Q(owner__username__icontains=value) | Q(uuid__istartswith=value)
        return queryset.filter(found)


# State of a node as lists filter it: (word, condition).
NODE_STATES: dict[str, tuple[str, Q]] = {
    "failed": ("failed", Q(failed=True)),
    "busy": ("in a session", Q(enabled=True, session__isnull=False)),
    "booted": ("booted", Q(actual__isnull=False, failed=False) & ~Q(power_state="off")),
    "differs": (
        "runs another image than desired",
        Q(actual__isnull=False, desired__isnull=False) & ~Q(actual=F("desired")),
    ),
    "on": ("power on", Q(power_state="on")),
    "off": ("power off", Q(power_state="off")),
    "unknown": ("power unknown", Q(power_state="unknown")),
    "locked": ("locked", Q(locked=True)),
    "disabled": ("disabled", Q(hardware_enabled=False)),
    "no-bmc": ("without a BMC", Q(bmc__isnull=True)),
}


class NodeFilter(django_filters.FilterSet):
    """The node list's filters, but for the range, which needs the whole inventory's names."""

    state = django_filters.ChoiceFilter(
        choices=[(state, word) for state, (word, _) in NODE_STATES.items()], method="in_state"
    )
    role = django_filters.CharFilter(field_name="role")
    group = django_filters.CharFilter(field_name="groups__name")
    session = django_filters.CharFilter(field_name="session__name")
    bmc = django_filters.ChoiceFilter(field_name="bmc__reach", choices=Reach.choices)

    class Meta:
        model = Node
        fields: list[str] = []

    def in_state(self, queryset: QuerySet[Any], name: str, value: str) -> QuerySet[Any]:
        """By the table above."""
        return queryset.filter(NODE_STATES[value][1])


class TemplateChoice(forms.ModelChoiceField):
    """Templates by their name."""

    def label_from_instance(self, obj: Any) -> str:
        sets = len(obj.boot_sets)
        return f"{obj.name} ({sets} boot set{'' if sets == 1 else 's'})"


class StartForm(forms.Form):
    """What a session is to do, and to which nodes; nothing happens before the preview is confirmed."""

    template = TemplateChoice(
        queryset=SessionTemplate.objects.none(), empty_label="Choose…", to_field_name="name"
    )
    operation = forms.ChoiceField(
        choices=[(value, OPERATION_WORDS[Operation(value)]) for value in Operation.values],
        initial=Operation.REBOOT,
        widget=forms.RadioSelect,
    )
    nodes = forms.CharField(
        required=False,
        label="Only these nodes",
        widget=forms.TextInput(attrs={"spellcheck": "false", "placeholder": "x[1000-1003]c0s*b0n0, @group"}),
        help_text="Ranges, wildcards, places, @groups. Empty: all nodes of the template's boot sets.",
    )
    limit = forms.CharField(
        required=False,
        label="Limit (BOS)",
        widget=forms.TextInput(attrs={"spellcheck": "false", "placeholder": "all,!x1000c0s0b0n0,&Compute"}),
        help_text="BOS's own grammar: names, groups and roles, & keeps, ! leaves out.",
    )
    name = forms.CharField(required=False, max_length=127, help_text="Empty: a name is made.")
    include_disabled = forms.BooleanField(
        required=False, label="Also nodes that the inventory calls disabled"
    )
    stage = forms.BooleanField(
        required=False, label="Only stage", help_text="Keep for later what the nodes are to run; act on none."
    )

    identity = forms.UUIDField(required=False, widget=forms.HiddenInput)  # of the session to be

    def __init__(self, *args: Any, templates: QuerySet[SessionTemplate], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        field = self.fields["template"]
        assert isinstance(field, forms.ModelChoiceField)  # noqa: S101  (declared above)
        field.queryset = templates.order_by("name")
        for name, field in self.fields.items():
            if field.help_text:
                field.widget.attrs["aria-describedby"] = f"id_{name}_hint"

    def clean_name(self) -> str:
        """BOS's rule for names."""
        name: str = self.cleaned_data["name"].strip()
        if name and not NAME.fullmatch(name):
            raise forms.ValidationError(
                "Letters, digits, '.', '-' and '_', beginning and ending with a letter or digit."
            )
        return name

    def clean(self) -> dict[str, Any]:
        """One way of narrowing at a time."""
        found: dict[str, Any] = super().clean() or {}
        if found.get("nodes") and found.get("limit"):
            self.add_error("limit", "Give either nodes or a limit, not both.")
        return found


def groups_of() -> list[str]:
    """Names for the filter's list."""
    return list(NodeGroup.objects.order_by("name").values_list("name", flat=True)[:200])
