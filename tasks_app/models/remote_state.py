"""Terraform's state as our HTTP backend keeps it. It outlives its task, as state does in the original."""

from __future__ import annotations

from typing import Any

from django.db import models
from django.db.models import Q
from django.utils import timezone

from accounts_app.models import Domain


class TerraformState(models.Model):
    """The state of one task name in one domain, and who holds its lock."""

    name = models.CharField(max_length=200)
    domain = models.ForeignKey(Domain, null=True, blank=True, on_delete=models.PROTECT)
    serial = models.BigIntegerField(default=0)  # our count of versions
    lock_id = models.CharField(max_length=64, blank=True)
    lock_info = models.JSONField(null=True, blank=True)
    locked_by_run = models.BigIntegerField(null=True, blank=True)
    locked_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["domain", "name"], name="state_name_in_domain", condition=Q(domain__isnull=False)
            ),
            models.UniqueConstraint(
                fields=["name"], name="state_name_without_domain", condition=Q(domain__isnull=True)
            ),
        ]

    def __str__(self) -> str:
        return f"state of {self.name}"

    @classmethod
    def of(cls, name: str, domain_id: Any) -> TerraformState:
        """The row of a name, made where there is none."""
        return cls.objects.get_or_create(name=name, domain_id=domain_id)[0]


class StateVersion(models.Model):
    """One version of a state, encrypted: Terraform keeps passwords in it."""

    state = models.ForeignKey(TerraformState, on_delete=models.CASCADE, related_name="versions")
    serial = models.BigIntegerField()
    encrypted = models.TextField()
    md5 = models.CharField(max_length=32)
    run_id = models.BigIntegerField(null=True, blank=True)
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ["-serial"]
        constraints = [models.UniqueConstraint(fields=["state", "serial"], name="serial_in_state")]

    def __str__(self) -> str:
        return f"version {self.serial} of {self.state}"
