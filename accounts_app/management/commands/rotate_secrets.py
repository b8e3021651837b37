"""`manage.py rotate_secrets`: encrypt every stored secret with the newest key."""

from __future__ import annotations

from typing import Any

from django.apps import apps
from django.core.management.base import BaseCommand, CommandError
from django.db import transaction

from accounts_app import secrets

# Fields that hold what accounts_app.secrets encrypted, by model.
FIELDS = {"accounts_app.ApiKey": "secret_encrypted", "sessions_app.Bmc": "secret"}


class Command(BaseCommand):
    """Runs while the service runs: old and new keys are both good until the old one is taken away."""

    help = (
        "Encrypt all stored secrets with the first of MUSTER_ENCRYPTION_KEYS. Put a new key first, restart, "
        "run this, then take the old key away."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        """Row by row, each in its own short transaction; a row that changed meanwhile is taken as it is."""
        unreadable = 0
        for label, field in FIELDS.items():
            model: Any = apps.get_model(label)
            rotated = 0
            for pk in model.objects.exclude(**{field: ""}).values_list("pk", flat=True):
                try:
                    rotated += self.rotate(model, pk, field)
                except secrets.SecretUnreadable:
                    unreadable += 1
                    self.stderr.write(f"{label} {pk}: none of the configured keys opens its secret.")
            self.stdout.write(f"{label}: {rotated} secrets are encrypted with the newest key.")
        if unreadable:
            raise CommandError(f"{unreadable} secrets could not be read; they are left as they were.")

    def rotate(self, model: Any, pk: int, field: str) -> int:
        """One row; 1 where it was rotated."""
        with transaction.atomic():
            row = model.objects.select_for_update().filter(pk=pk).first()
            if row is None or not getattr(row, field):
                return 0
            model.objects.filter(pk=pk).update(**{field: secrets.rotate(getattr(row, field))})
            return 1
