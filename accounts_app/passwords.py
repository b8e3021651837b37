"""Signing in by name and password, at whatever door; a site that has an issuer may switch it off."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.contrib.auth.backends import ModelBackend


class Passwords(ModelBackend):
    """Django's own, while MUSTER_PASSWORDS is on. Logins that there are go on either way."""

    def authenticate(self, *args: Any, **kwargs: Any) -> Any:
        """The user, or None."""
        return super().authenticate(*args, **kwargs) if settings.MUSTER_PASSWORDS else None
