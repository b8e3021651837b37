"""Nodes, their BMCs and groups, and what they boot."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

from django.core.exceptions import ValidationError
from django.db import models
from django.utils import timezone

from accounts_app import secrets
from accounts_app.models import Domain, OwnedQuerySet
from sessions_app import drivers
from sessions_app.prepared import Prepared
from sessions_app.states import LastAction, PowerState, Reach

# Cray's component name of a node: cabinet, chassis, slot, BMC, node.
XNAME = re.compile(r"x(\d{1,4})c(\d)s(\d{1,3})b(\d{1,2})n(\d{1,2})", re.IGNORECASE)
LOOKS_LIKE_XNAME = re.compile(r"x\d", re.IGNORECASE)
HOST_NAME = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,125}[a-z0-9])?", re.IGNORECASE)


def canonical_name(name: str) -> str:
    """The form in which a node's name is stored: lower case, an xname's numbers without leading zeros.

    Raises ValidationError for what begins like an xname and is none, and for what is no host name.
    """
    match = XNAME.fullmatch(name)
    if match:
        return "x{}c{}s{}b{}n{}".format(*(int(part) for part in match.groups()))
    if LOOKS_LIKE_XNAME.match(name) or not HOST_NAME.fullmatch(name):
        raise ValidationError(f"'{name}' is not the name of a node.")
    return name.lower()


class BmcQuerySet(OwnedQuerySet):
    """Questions about BMCs."""

    def visible_to(self, user: Any) -> OwnedQuerySet:
        """All for superadmins; else those of the user's domain. What belongs to none is the superadmins'."""
        rows = super().visible_to(user)
        return rows if getattr(user, "is_superadmin", False) else rows.exclude(domain=None)


class Bmc(models.Model):
    """The controller through which nodes are switched: driver kind, address, settings, encrypted secret."""

    name = models.CharField(max_length=127, unique=True)
    kind = models.CharField(max_length=32, choices=drivers.kinds)
    address = models.CharField(max_length=255, blank=True, help_text="Base URL, such as https://10.1.0.7")
    settings = models.JSONField(default=dict, blank=True)
    secret = models.TextField(blank=True, editable=False)
    domain = models.ForeignKey(
        Domain, null=True, blank=True, on_delete=models.SET_NULL, help_text="None: the superadmins'"
    )
    created_at = models.DateTimeField(default=timezone.now)

    # Learned from every action and from looks (reach.py).
    reach = models.CharField(max_length=16, choices=Reach, default=Reach.UNKNOWN, db_index=True)
    reach_since = models.DateTimeField(null=True, blank=True)
    seen_at = models.DateTimeField(null=True, blank=True)  # when it answered last
    latency = models.FloatField(null=True, blank=True)  # seconds that its last answer took
    last_error = models.CharField(max_length=255, blank=True)  # of the last try, "" when it went well
    look_at = models.DateTimeField(default=timezone.now, db_index=True)  # when it is asked next

    objects = BmcQuerySet.as_manager()

    class Meta:
        verbose_name = "BMC"

    def __str__(self) -> str:
        return self.name

    def clean(self) -> None:
        """Check the settings against the driver's declared fields."""
        try:
            public, secret = drivers.split_settings(self.kind, {**self.settings, **self.secrets()})
        except ValueError as error:
            raise ValidationError({"settings": str(error)}) from None
        self.settings = public
        self.set_secrets(secret)

    def secrets(self) -> dict[str, str]:
        """The decrypted secrets; for handing to a driver only."""
        return secrets.decrypt(self.secret)

    def set_secrets(self, values: dict[str, str]) -> None:
        """Encrypt and keep; saving is the caller's."""
        self.secret = secrets.encrypt(values)

    def is_changed_by(self, user: Any) -> bool:
        """Whether a user who sees it may change it: not while it switches nodes of others, too, and not where
        Vault has its password: with another address or path it would be sent to somebody else."""
        if user.is_superadmin or self.settings.get("vault_path"):
            return bool(user.is_superadmin)
        return not self.nodes.exclude(domain_id=user.domain_id).exists()


class BootImage(models.Model):
    """What an image consists of, for templates that name it by its manifest's path."""

    path = models.CharField(max_length=4095, unique=True)
    etag = models.CharField(max_length=255, blank=True)
    kernel = models.CharField(max_length=4095)
    initrd = models.CharField(max_length=4095)
    boot_parameters = models.TextField(blank=True)
    arch = models.CharField(max_length=16, default="X86")

    def __str__(self) -> str:
        return self.path


class BootArtifacts(models.Model):
    """Kernel, initrd and parameters that nodes boot with; equal ones are one row."""

    key = models.CharField(max_length=64, unique=True)
    kernel = models.CharField(max_length=4095, blank=True)
    initrd = models.CharField(max_length=4095, blank=True)
    kernel_parameters = models.TextField(blank=True)

    class Meta:
        verbose_name_plural = "boot artifacts"

    def __str__(self) -> str:
        return self.kernel or "nothing"

    @classmethod
    def of(cls, *, kernel: str, initrd: str, kernel_parameters: str) -> BootArtifacts:
        """The row with exactly these."""
        key = secrets.fingerprint("\n".join((kernel, initrd, kernel_parameters)))
        row, _ = cls.objects.get_or_create(
            key=key,
            defaults={"kernel": kernel, "initrd": initrd, "kernel_parameters": kernel_parameters},
        )
        return row

    def as_document(self) -> dict[str, str]:
        """The JSON of BOS v2."""
        return {
            "kernel": self.kernel,
            "kernel_parameters": self.kernel_parameters,
            "initrd": self.initrd,
        }


class NodeGroup(models.Model):
    """A named set of nodes (a label; not a category)."""

    name = models.CharField(max_length=127, unique=True)
    description = models.CharField(max_length=255, blank=True)

    def __str__(self) -> str:
        return self.name


class Node(models.Model):
    """A machine that is booted: what it is, what it should run, what is staged, what it runs.

    Desired, staged and actual state are BOS v2's (contracts, BOS 4.1); artifacts are null where empty.
    """

    name = models.CharField(max_length=127, unique=True)
    nid = models.BigIntegerField(null=True, blank=True, unique=True)
    mac = models.CharField(max_length=17, blank=True, null=True, unique=True)
    boot_address = models.GenericIPAddressField(null=True, blank=True)  # gets its boot script there alone
    role = models.CharField(max_length=63, blank=True, default="Compute", db_index=True)
    subrole = models.CharField(max_length=63, blank=True)
    arch = models.CharField(max_length=16, blank=True, default="X86")
    hardware_enabled = models.BooleanField(default=True)  # the inventory's word: fit for use
    locked = models.BooleanField(default=False)
    domain = models.ForeignKey(Domain, null=True, blank=True, on_delete=models.SET_NULL)
    groups = models.ManyToManyField(NodeGroup, blank=True, related_name="nodes")

    bmc = models.ForeignKey(Bmc, null=True, blank=True, on_delete=models.SET_NULL, related_name="nodes")
    system = models.CharField(max_length=255, blank=True)  # the BMC's path of this node, once discovered
    power_state = models.CharField(max_length=16, choices=PowerState, default=PowerState.UNKNOWN)
    power_at = models.DateTimeField(null=True, blank=True)
    located = models.BooleanField(null=True, blank=True)  # its locate LED is lit; null: not known

    session = models.ForeignKey(
        "BootSession", null=True, blank=True, on_delete=models.SET_NULL, related_name="nodes"
    )
    enabled = models.BooleanField(default=False)  # BOS: something is still to be done with it
    on_hold = models.BooleanField(default=False)
    failed = models.BooleanField(default=False)  # BOS: status_override failed
    error = models.TextField(blank=True)
    retry_policy = models.IntegerField(null=True, blank=True)

    desired = models.ForeignKey(
        BootArtifacts, null=True, blank=True, on_delete=models.PROTECT, related_name="desired_by"
    )
    desired_configuration = models.CharField(max_length=127, blank=True)
    desired_at = models.DateTimeField(null=True, blank=True)
    staged = models.ForeignKey(
        BootArtifacts, null=True, blank=True, on_delete=models.PROTECT, related_name="staged_by"
    )
    staged_configuration = models.CharField(max_length=127, blank=True)
    staged_session = models.ForeignKey(
        "BootSession", null=True, blank=True, on_delete=models.SET_NULL, related_name="staged_nodes"
    )
    staged_at = models.DateTimeField(null=True, blank=True)
    actual = models.ForeignKey(
        BootArtifacts, null=True, blank=True, on_delete=models.PROTECT, related_name="actual_of"
    )
    actual_at = models.DateTimeField(null=True, blank=True)  # when it reported last
    actual_configuration = models.CharField(max_length=127, blank=True)  # applied in this boot
    script_at = models.DateTimeField(null=True, blank=True)  # when its boot script was fetched last
    busy_until = models.DateTimeField(null=True, blank=True)  # a deleted session's worker may talk to it

    last_action = models.CharField(max_length=32, choices=LastAction, blank=True, default=LastAction.NONE)
    last_action_at = models.DateTimeField(null=True, blank=True)
    last_action_failed = models.BooleanField(default=False)
    power_on_attempts = models.IntegerField(default=0)
    power_off_graceful_attempts = models.IntegerField(default=0)
    power_off_forceful_attempts = models.IntegerField(default=0)

    objects = OwnedQuerySet.as_manager()

    class Meta:
        indexes = [models.Index(fields=["actual_at"], name="node_actual_at")]

    def __str__(self) -> str:
        return self.name

    def clean(self) -> None:
        """Bring the name and the MAC into the form in which they are looked up."""
        self.name = canonical_name(self.name)
        if self.mac:
            self.mac = canonical_mac(self.mac)
        else:
            self.mac = None


def canonical_mac(text: str) -> str:
    """Lower case with colons. Raises ValidationError for what is no MAC address."""
    digits = re.sub(r"[:.-]", "", text).lower()
    if not re.fullmatch(r"[0-9a-f]{12}", digits):
        raise ValidationError(f"'{text}' is not a MAC address.")
    return ":".join(digits[place : place + 2] for place in range(0, 12, 2))


class BootTokenManager(models.Manager["BootToken"]):
    """Finds tokens by what the node carries."""

    def find(self, token: str) -> BootToken | None:
        """The row whose latest or previous token this is, with its node (name and last report); None for any
        other text."""
        digest = secrets.digest(token, purpose="node")
        rows = TOKENS.rows(digest=digest)
        if not rows:
            return None
        pk, name, reported_at, *values = rows[0]
        node = Node(pk=pk, name=name, actual_at=reported_at)
        row = BootToken(node=node, **dict(zip(TOKEN_FIELDS, values, strict=True)))
        row.booted_id = row.artifacts_id if row.digest == digest else row.previous_artifacts_id
        return row


class BootToken(models.Model):
    """Handed to a node with its boot script; the node reports with it what it runs, and can do nothing else.

    Only digests are stored. The last two of a node are good: firmware may fetch its script twice, and boots
    with one of them. A third makes the first void.
    """

    booted_id: int | None = None  # the artifacts that the found token stands for

    node = models.OneToOneField(Node, on_delete=models.CASCADE, related_name="token")
    digest = models.CharField(max_length=64, unique=True)
    artifacts = models.ForeignKey(BootArtifacts, on_delete=models.PROTECT, related_name="+")
    created_at = models.DateTimeField()
    address = models.CharField(max_length=45, blank=True)  # that it was given to
    previous_digest = models.CharField(max_length=64, blank=True, db_index=True)
    previous_artifacts = models.ForeignKey(
        BootArtifacts, null=True, on_delete=models.PROTECT, related_name="+"
    )

    objects = BootTokenManager()

    def __str__(self) -> str:
        return f"token of {self.node}"

    def is_carried_as(self, token: str) -> bool:
        """Whether this text is one of the node's two tokens."""
        digest = secrets.digest(token, purpose="node")
        return secrets.same(digest, self.digest) or secrets.same(digest, self.previous_digest)


TOKEN_FIELDS = ("id", "digest", "previous_digest", "artifacts_id", "previous_artifacts_id", "created_at")
TOKENS = Prepared(
    lambda digest: (
        BootToken.objects.filter(models.Q(digest=digest) | models.Q(previous_digest=digest))
        .order_by("id")
        .values_list("node_id", "node__name", "node__actual_at", *TOKEN_FIELDS)[:1]
    ),
    digest=str,
)


@lru_cache(maxsize=65_536)  # the inventory's names are the same on each request
def natural(name: str) -> tuple[Any, ...]:
    """A sort key under which x9 comes before x10."""
    return tuple(int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name))
