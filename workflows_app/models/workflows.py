"""Runtimes; workflows as people describe them; each description that was ever published."""

from __future__ import annotations

import uuid
from typing import Any

from django.core.exceptions import ValidationError
from django.db import models
from django.utils import timezone

from accounts_app import secrets
from accounts_app.models import ApiKey, Domain, OwnedQuerySet, User
from workflows_app import drivers
from workflows_app.drivers.base import RuntimeDriver
from workflows_app.states import PublishingMode


def new_id() -> str:
    """The id of a workflow that was given none."""
    return str(uuid.uuid4())


class Runtime(models.Model):
    """Where workflows run: driver kind, settings, encrypted secret."""

    name = models.SlugField(max_length=63, unique=True)
    kind = models.CharField(max_length=32, choices=drivers.kinds)
    settings = models.JSONField(default=dict, blank=True)
    secret = models.TextField(blank=True, editable=False)
    error = models.TextField(blank=True, editable=False)  # why it did not answer lately
    failures = models.IntegerField(default=0, editable=False)  # in a row
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    def __str__(self) -> str:
        return self.name

    def clean(self) -> None:
        """Check the settings against the driver's declared fields; keep the secret ones encrypted."""
        values = dict(self.settings or {})
        try:
            public, secret = drivers.split_settings(self.kind, {**self.secrets(), **values})
        except drivers.DriverSettingsError as error:
            raise ValidationError({"settings": list(error.errors.values())}) from None
        except ValueError as error:
            raise ValidationError({"kind": str(error)}) from None
        self.settings = public
        self.secret = secrets.encrypt(secret)

    def secrets(self) -> dict[str, str]:
        """The decrypted secrets; for handing to a driver only."""
        return secrets.decrypt(self.secret)


def driver_of(runtime: Runtime) -> RuntimeDriver:
    """The driver of a runtime, with its settings and secrets; making one asks nobody anything."""
    return drivers.make(runtime.kind, runtime.name, runtime.settings, runtime.secrets())


class Workflow(models.Model):
    """A workflow as it is described now. What runs is a revision of it, frozen when it was published."""

    id = models.CharField(primary_key=True, max_length=63, default=new_id)
    name = models.CharField(max_length=127)
    description = models.TextField(blank=True)
    domain = models.ForeignKey(Domain, null=True, blank=True, on_delete=models.PROTECT)
    runtime = models.ForeignKey(Runtime, on_delete=models.PROTECT, related_name="workflows")
    mode = models.CharField(max_length=8, choices=PublishingMode, default=PublishingMode.SYNC)
    services = models.JSONField(default=list)
    entry = models.CharField(max_length=40, blank=True)  # service that takes requests; "" = first with a port
    entry_path = models.CharField(max_length=1000, default="/")
    request_seconds = models.IntegerField(default=60)  # an answer takes at most so long
    queue_seconds = models.IntegerField(default=3600)  # an analysis waits at most so long
    keys = models.ManyToManyField(ApiKey, blank=True, related_name="workflows")
    owner = models.ForeignKey(User, null=True, blank=True, on_delete=models.SET_NULL)
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    updated_at = models.DateTimeField(auto_now=True)

    objects = OwnedQuerySet.as_manager()

    class Meta:
        ordering = ["name", "id"]

    def __str__(self) -> str:
        return self.name

    def body(self) -> dict[str, Any]:
        """What a revision freezes."""
        return {
            "mode": self.mode,
            "services": self.services,
            "entry": self.entry,
            "entry_path": self.entry_path,
            "request_seconds": self.request_seconds,
            "queue_seconds": self.queue_seconds,
        }

    def opens_to(self, key: Any) -> bool:
        """Whether `key` (an ApiKey, or None for a login) may be used here.

        A key associated with workflows opens these and no others; one that is associated with none opens
        what its user may see.
        """
        if not isinstance(key, ApiKey):
            return True
        return self.keys.filter(pk=key.pk).exists() or not key.workflows.exists()


class Revision(models.Model):
    """One description of a workflow that was published; never changed afterwards."""

    workflow = models.ForeignKey(Workflow, on_delete=models.CASCADE, related_name="revisions")
    number = models.IntegerField()
    body = models.JSONField()
    restored_from = models.IntegerField(null=True, blank=True)  # a rollback's: the revision it brought back
    created_at = models.DateTimeField(default=timezone.now)
    created_by = models.ForeignKey(User, null=True, on_delete=models.SET_NULL, related_name="+")

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["workflow", "number"], name="revision_number_in_workflow")
        ]
        ordering = ["-number"]

    def __str__(self) -> str:
        return f"revision {self.number} of {self.workflow_id}"
