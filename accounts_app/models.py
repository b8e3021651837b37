"""Users, domains (tenants) and keys."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, timedelta
from typing import Any, ClassVar

from django.contrib.auth.models import AbstractUser, UserManager
from django.db import models
from django.utils import timezone

from accounts_app import secrets
from accounts_app.states import COVERED, VERBS, FilteredPage, Role, Verb, is_open


class Domain(models.Model):
    """A tenant: owns nodes, templates, sessions; named in the header Cray-Tenant-Name."""

    name = models.CharField(max_length=127, unique=True)
    description = models.CharField(max_length=255, blank=True)
    created_at = models.DateTimeField(default=timezone.now)

    def __str__(self) -> str:
        return self.name


class MusterUserManager(UserManager["User"]):
    """Makes users; whoever `createsuperuser` makes is a superadmin."""

    def administered_by(self, user: Any) -> models.QuerySet[User]:
        """Whose keys a user may handle: all, those of his domain (without superadmins), or his own."""
        if not getattr(user, "is_authenticated", False) or not user.is_active or user.pk is None:
            return self.none()
        if user.is_superadmin:
            return self.all()
        if user.may(Verb.ADMIN) and user.domain_id is not None:
            return self.filter(domain_id=user.domain_id).exclude(role=Role.SUPERADMIN)
        return self.filter(pk=user.pk)

    def create_superuser(
        self, username: str, email: str | None = None, password: str | None = None, **extra: Any
    ) -> User:
        extra.setdefault("role", Role.SUPERADMIN)
        return super().create_superuser(username, email, password, **extra)


class User(AbstractUser):
    """A person or a program. Projects are Django's groups."""

    role = models.CharField(max_length=16, choices=Role, default=Role.NONE)
    domain = models.ForeignKey(Domain, null=True, blank=True, on_delete=models.PROTECT)
    subject = models.CharField(
        max_length=511,
        null=True,
        blank=True,
        unique=True,
        help_text="Of whom the single sign-on vouches for: the issuer's address, a blank, his `sub` there.",
    )

    objects: ClassVar[MusterUserManager] = MusterUserManager()

    @property
    def is_superadmin(self) -> bool:
        """Whether everything of every domain is open to him."""
        return self.is_active and self.role == Role.SUPERADMIN

    def has_perm(self, perm: str, obj: Any = None) -> bool:
        """Django's rights in the admin, and what the role gives to staff: superadmins may all; others who
        may read see everything and change nothing. The admin shows all tenants, so only staff of none."""
        return super().has_perm(perm, obj) or self._staff_may(perm.partition(".")[2])

    def has_module_perms(self, app_label: str) -> bool:
        """Whether an app is listed in the admin."""
        return super().has_module_perms(app_label) or self._staff_may("view_")

    def _staff_may(self, codename: str) -> bool:
        if not (self.is_active and self.is_staff):
            return False
        if self.is_superadmin:
            return True
        return self.domain_id is None and self.may(Verb.READ) and codename.startswith("view_")

    def may(self, verb: str) -> bool:
        """Whether the role allows `verb` at all; which objects, querysets decide (`visible_to`)."""
        return self.is_active and verb in VERBS[self.role]


class OwnedQuerySet(models.QuerySet[Any]):
    """Rows of a domain. Permission narrows the queryset first."""

    def visible_to(self, user: Any) -> OwnedQuerySet:
        """Everything for superadmins; else the rows of the user's own domain (none = the untenanted)."""
        if not getattr(user, "is_authenticated", False) or not user.may(Verb.READ):
            return self.none()
        if user.is_superadmin:
            return self.all()
        return self.filter(domain_id=user.domain_id)


class Grant:
    """What a key or a token lets its bearer do of what its user may: by verb, by area, until when."""

    user: User
    access_key: str  # its name: in lists, in the audit
    scope: str
    areas: list[str]  # none: all
    expires_at: datetime | None

    def allows(self, verb: str) -> bool:
        """Whether the scope covers `verb`: admin covers all, operate covers read."""
        return verb in COVERED.get(self.scope, frozenset())

    def opens(self, path: str) -> bool:
        """Whether it is for the area that a path belongs to."""
        return is_open(path, self.areas)

    def covers(self, *, scope: str, areas: Collection[str], expires_at: datetime | None) -> bool:
        """Whether a key that may do this would do nothing more than this one, and not for longer."""
        if self.expires_at is not None and (expires_at is None or expires_at > self.expires_at):
            return False
        within = not self.areas or (bool(areas) and set(areas) <= set(self.areas))
        return within and self.allows(scope)


class ApiKey(Grant, models.Model):
    """A key for programs: an access key, known; a secret, shown once and stored as a digest.

    Keys that sign requests (HMAC) also keep the secret encrypted, for the signature can't be checked
    without it.
    """

    access_key = models.CharField(max_length=32, unique=True)
    name = models.CharField(max_length=127, blank=True)
    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="keys")
    secret_digest = models.CharField(max_length=64)
    secret_encrypted = models.TextField(blank=True)
    scope = models.CharField(max_length=16, choices=Verb, default=Verb.ADMIN)
    areas = models.JSONField(default=list, blank=True, help_text="Empty: all")
    created_at = models.DateTimeField(default=timezone.now)
    expires_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)
    last_used_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        verbose_name = "API key"

    def __str__(self) -> str:
        return self.access_key

    @property
    def is_usable(self) -> bool:
        """Neither revoked nor expired, and its user active."""
        if self.revoked_at is not None or not self.user.is_active:
            return False
        return self.expires_at is None or self.expires_at > timezone.now()

    def matches(self, secret: str) -> bool:
        """Whether this is the key's secret, in constant time."""
        return secrets.same(self.secret_digest, secrets.digest(secret, purpose="key"))


class SavedFilter(models.Model):
    """A list's filter to which somebody gave a name; his own only."""

    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="saved_filters")
    page = models.CharField(max_length=16, choices=FilteredPage)
    name = models.CharField(max_length=40)
    query = models.CharField(max_length=1000)  # of the list's URL

    class Meta:
        ordering = ["name"]
        constraints = [models.UniqueConstraint(fields=["user", "page", "name"], name="saved_filter_name")]

    def __str__(self) -> str:
        return f"{self.name} of {self.user_id}"

    @property
    def url(self) -> str:
        """Where it leads."""
        return f"/{self.page}/?{self.query}"


class IdempotentAnswer(models.Model):
    """What a request with an `Idempotency-Key` was answered, so that it starts nothing twice."""

    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="+")
    key = models.CharField(max_length=255)
    request_digest = models.CharField(max_length=64)
    answered = models.PositiveSmallIntegerField(default=0)  # the status of the HTTP answer
    content_type = models.CharField(max_length=255, blank=True)
    body = models.TextField(blank=True)  # encrypted: an answer may hold what is shown only once
    created_at = models.DateTimeField(default=timezone.now, db_index=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["user", "key"], name="idempotency_key_of_user")]

    def __str__(self) -> str:
        return f"{self.key} of {self.user_id}"


class Unchangeable(Exception):
    """Somebody tried to change or delete a row that is kept as it is."""


class AuditQuerySet(models.QuerySet["AuditEntry"]):
    """Rows that are read, and nothing else."""

    def visible_to(self, user: Any) -> AuditQuerySet:
        """All for superadmins, the users of his domain for a domain's admin, his own for everybody else."""
        if not getattr(user, "is_authenticated", False) or not user.is_active:
            return self.none()
        if user.is_superadmin:
            return self.all()
        if user.may(Verb.ADMIN) and user.domain_id is not None:
            members = User.objects.filter(domain_id=user.domain_id).values("username")
            return self.filter(username__in=members)
        return self.filter(username=user.username)

    def update(self, **values: Any) -> int:
        raise Unchangeable("Audit rows can't be changed.")

    def delete(self) -> tuple[int, dict[str, int]]:
        raise Unchangeable("Audit rows can't be deleted.")


class AuditEntry(models.Model):
    """One request that would change something: who, from where, by which door, what, with what result."""

    at = models.DateTimeField(default=timezone.now, db_index=True)
    request_id = models.UUIDField()
    username = models.CharField(max_length=150, blank=True, db_index=True)
    access_key = models.CharField(max_length=64, blank=True)
    address = models.CharField(max_length=45, blank=True)
    door = models.CharField(max_length=16)
    method = models.CharField(max_length=16)
    path = models.CharField(max_length=512)
    view = models.CharField(max_length=200, blank=True)
    target = models.CharField(max_length=255, blank=True)
    status = models.PositiveSmallIntegerField()  # of the HTTP answer

    SHOWN: ClassVar[list[str]] = [
        "id", "at", "request_id", "username", "access_key", "address", "door", "method", "path", "view",
        "target", "status",
    ]  # fmt: skip

    objects = AuditQuerySet.as_manager()

    class Meta:
        verbose_name_plural = "audit entries"
        ordering = ["-id"]

    def __str__(self) -> str:
        who = self.username or "nobody"
        return f"{self.at:%Y-%m-%d %H:%M:%S} {who} {self.method} {self.path}: {self.status}"

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Insert once."""
        if self.pk is not None:
            raise Unchangeable("Audit rows can't be changed.")
        super().save(*args, **kwargs)

    def delete(self, *args: Any, **kwargs: Any) -> tuple[int, dict[str, int]]:
        raise Unchangeable("Audit rows can't be deleted.")

    @staticmethod
    def holding(words: str) -> models.Q:
        """Rows with these words in user name, path or target."""
        return (
            models.Q(username__icontains=words)
            | models.Q(path__icontains=words)
            | models.Q(target__icontains=words)
        )

    def as_document(self) -> dict[str, Any]:
        """As JSON has it, in exports and for the webhook."""
        found = {name: getattr(self, name) for name in self.SHOWN}
        return {**found, "at": self.at.isoformat(), "request_id": str(self.request_id)}


class AuditPending(models.Model):
    """An audit row that the webhook has not delivered yet."""

    entry = models.OneToOneField(AuditEntry, on_delete=models.PROTECT, primary_key=True, related_name="+")

    def __str__(self) -> str:
        return str(self.entry)


class AuditWebhook(models.Model):
    """How the delivery of audit rows stands: one row."""

    next_at = models.DateTimeField(default=timezone.now)  # not before; also the end of a worker's claim
    failures = models.PositiveIntegerField(default=0)  # since the last success
    error = models.CharField(max_length=255, blank=True)
    delivered_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        verbose_name_plural = "audit webhook"

    def __str__(self) -> str:
        return self.error or "delivering"

    @classmethod
    def claim(cls, lease: timedelta) -> bool:
        """Whether it is time, and for the caller alone until the lease is over."""
        now = timezone.now()
        cls.objects.get_or_create(pk=1, defaults={"next_at": now})
        return bool(cls.objects.filter(pk=1, next_at__lte=now).update(next_at=now + lease))
