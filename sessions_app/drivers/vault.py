"""Credentials of BMCs that are kept in Vault (or OpenBao) and not here: read when a BMC is talked to.

A BMC names a path of a KV engine, version 2. What stands there is kept in memory for some seconds, never
written. Tokens are renewed; where that is refused Muster logs in anew.
"""

from __future__ import annotations

import asyncio
import logging
import re
import threading
import time
from collections import OrderedDict
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Any

import requests
from django.conf import settings

from .base import PowerError, Reason

logger = logging.getLogger(__name__)

PATH = re.compile(r"[\w-]+(?:[/.][\w-]+)*")
TIMEOUT = 3  # seconds for one request
PAUSE = 5.0  # seconds for which a Vault that was away is not asked
MOST = 50_000  # paths kept in memory
READERS = 8  # requests at the same time

AWAY = "Vault does not answer"
DENIED = "Vault denies the credentials of this BMC"


class Vault:
    """One Vault, as settings name it; used from many threads."""

    def __init__(self, known: Mapping[str, Any]) -> None:
        import hvac.exceptions  # loaded where a Vault is used only

        self._errors = hvac.exceptions
        self._known = known
        self._client = hvac.Client(
            url=known["url"],
            namespace=known["namespace"] or None,
            verify=known["ca_file"] or True,
            timeout=TIMEOUT,
            allow_redirects=True,  # a standby leads to the active one
        )
        self._lock = threading.Lock()
        self._renew_at: float | None = None  # not logged in yet
        self._away_until = 0.0
        self._kept: OrderedDict[str, tuple[float, dict[str, str]]] = OrderedDict()

    def read(self, path: str) -> dict[str, str]:
        """What stands at `path`, at most `cache_seconds` old. Raises PowerError."""
        at, values = self._kept.get(path, (0.0, {}))
        now = time.monotonic()
        if values and now - at < self._known["cache_seconds"]:
            return values
        if now < self._away_until:
            raise PowerError(Reason.UNREACHABLE, AWAY)
        try:
            values = self._read(path)
        except (self._errors.Forbidden, self._errors.Unauthorized, self._errors.InvalidRequest):
            raise PowerError(Reason.UNAUTHORISED, DENIED) from None
        except self._errors.InvalidPath:
            raise PowerError(Reason.SETTINGS, "Vault has nothing at the path of this BMC") from None
        except (self._errors.VaultError, requests.RequestException) as error:
            # Its text has addresses and paths in it.
            logger.warning("Vault can't be used: %s", type(error).__name__)
            self._away_until = time.monotonic() + PAUSE
            raise PowerError(Reason.UNREACHABLE, AWAY) from None
        self._kept[path] = (time.monotonic(), values)
        while len(self._kept) > MOST:
            self._kept.popitem(last=False)
        return values

    def _read(self, path: str) -> dict[str, str]:
        self._log_in()
        try:
            answer = self._ask(path)
        except self._errors.Forbidden:
            self._log_in(anew=True)  # the token may have been withdrawn
            answer = self._ask(path)
        found = answer["data"]["data"] or {}
        return {str(name): str(value) for name, value in found.items()}

    def _ask(self, path: str) -> Any:
        return self._client.secrets.kv.v2.read_secret_version(
            path, mount_point=self._known["mount"], raise_on_deleted_version=True
        )

    def _log_in(self, *, anew: bool = False) -> None:
        """See to it that there is a token that is good for a while."""
        with self._lock:
            if self._renew_at is not None and not anew and time.monotonic() < self._renew_at:
                return
            lease = 0 if anew or self._renew_at is None else self._renewed()
            lease = lease or self._login()
            # 0: it never lapses, as a root token
            self._renew_at = time.monotonic() + (lease / 2 if lease else float("inf"))

    def _login(self) -> float:
        """A fresh token's seconds."""
        if self._known["role_id"]:
            self._client.token = ""
            auth = self._client.auth.approle.login(self._known["role_id"], self._known["secret_id"])["auth"]
            return float(auth["lease_duration"])
        self._client.token = self._known["token"]
        return float(self._client.auth.token.lookup_self()["data"]["ttl"])

    def _renewed(self) -> float:
        """Seconds that the token is good for after it was renewed; 0 where it could not be, or hardly."""
        try:
            lease = float(self._client.auth.token.renew_self()["auth"]["lease_duration"])
        except (self._errors.Forbidden, self._errors.InvalidRequest):
            return 0
        return lease if lease > TIMEOUT else 0


@lru_cache(maxsize=1)
def _vault(known: tuple[tuple[str, Any], ...]) -> Vault:
    return Vault(dict(known))


@lru_cache(maxsize=1)
def _readers() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(READERS, thread_name_prefix="vault")


async def read_credentials(path: str) -> dict[str, str]:
    """What Vault has at `path`, by name of setting. Raises PowerError with a sentence for the node."""
    known = settings.MUSTER_VAULT
    if not known["url"]:
        raise PowerError(Reason.SETTINGS, "The BMC's credentials are in Vault, and none is configured")
    vault = _vault(tuple(sorted(known.items())))
    return await asyncio.get_running_loop().run_in_executor(_readers(), vault.read, path)
