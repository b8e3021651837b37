"""The options of BOS v2, with the original's names, defaults and limits (contracts, BOS 2.4)."""

from __future__ import annotations

import re
import time
from datetime import timedelta
from typing import Any

from django.db import models

DEFAULTS: dict[str, Any] = {
    "bss_read_timeout": 20,
    "cfs_read_timeout": 20,
    "cleanup_completed_session_ttl": "7d",
    "clear_stage": False,
    "component_actual_state_ttl": "4h",
    "default_retry_policy": 3,
    "discovery_frequency": 300,
    "hsm_read_timeout": 20,
    "ims_errors_fatal": False,
    "ims_images_must_exist": False,
    "ims_read_timeout": 20,
    "logging_level": "INFO",
    "max_boot_wait_time": 1200,
    "max_component_batch_size": 2800,
    "max_power_off_wait_time": 300,
    "max_power_on_wait_time": 120,
    "pcs_read_timeout": 20,
    "polling_frequency": 15,
    "reject_nids": False,
    "session_limit_required": False,
}

_UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def age(text: str) -> timedelta:
    """`3m`, `5h`, `10d`, `2w`, `0`: minutes, hours, days, weeks. Raises ValueError for anything else."""
    match = re.fullmatch(r"0|(\d+)([mMhHdDwW])", text)
    if match is None:
        raise ValueError(f"'{text}' is not an age such as 30m, 4h, 7d or 2w.")
    if match[1] is None:
        return timedelta()
    return timedelta(**{_UNITS[match[2].lower()]: int(match[1])})


class BosOptions(models.Model):
    """One row: the options that differ from their defaults."""

    values = models.JSONField(default=dict)

    class Meta:
        verbose_name = verbose_name_plural = "BOS options"

    def __str__(self) -> str:
        return "BOS options"

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Store, and forget what this process remembers."""
        super().save(*args, **kwargs)
        forget_options()

    @classmethod
    def current(cls) -> dict[str, Any]:
        """All options with their present values; another process's change is seen after REMEMBERED."""
        global _remembered
        values, until = _remembered
        if time.monotonic() >= until:
            values = {**DEFAULTS, **cls.stored()}
            _remembered = values, time.monotonic() + REMEMBERED
        return dict(values)

    @classmethod
    def stored(cls) -> dict[str, Any]:
        """Those that somebody has set, read at once."""
        return cls.objects.filter(pk=1).values_list("values", flat=True).first() or {}


REMEMBERED = 1.0  # seconds; nodes report by the hundred a second, and each report asks
_remembered: tuple[dict[str, Any], float] = ({}, 0.0)


def forget_options() -> None:
    """Read the options anew at the next look."""
    global _remembered
    _remembered = {}, 0.0
