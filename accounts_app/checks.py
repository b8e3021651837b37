"""System checks that speak plainly about keys."""

from typing import Any

from cryptography.fernet import Fernet
from django.conf import settings
from django.core.checks import Error, register


@register()
def check_encryption_keys(app_configs: Any, **kwargs: Any) -> list[Error]:
    """Each encryption key must be one that Fernet takes: 32 bytes in URL-safe base64."""
    problems = []
    if not settings.MUSTER_ENCRYPTION_KEYS:
        problems.append(
            Error(
                "There is no encryption key, so no BMC password could be stored.",
                hint="Set MUSTER_ENCRYPTION_KEYS, or leave it unset to have one made below MUSTER_HOME.",
                id="accounts_app.E001",
            )
        )
    for place, key in enumerate(settings.MUSTER_ENCRYPTION_KEYS, start=1):
        try:
            Fernet(key)
        except ValueError:
            problems.append(
                Error(
                    f"Encryption key number {place} of MUSTER_ENCRYPTION_KEYS is not a Fernet key.",
                    hint="Make one: python -c 'from cryptography.fernet import Fernet; "
                    "print(Fernet.generate_key().decode())'",
                    id="accounts_app.E002",
                )
            )
    return problems
