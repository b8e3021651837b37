"""A real issuer beside the tests, and what a browser or a program does with it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
import requests
from django.test import Client

from accounts_app import issuer as issuers
from deploy.local.keep import die_with_parent
from tests.accounts.issuer import API, CLIENT, SECRET
from tests.base import PROJECT

ADA = {
    "sub": "7f1c",
    "preferred_username": "ada",
    "realm_access": {"roles": ["offline_access", "muster-user"]},
    "tenant": "tenant-a",
    "groups": ["/physics", "/nobody-here-knows-it"],
}


@dataclass
class Issuer:
    """The process; `person` is who is signed in there."""

    address: str
    process: subprocess.Popen[str]

    def control(self, **told: Any) -> None:
        """Another person, claims as they should not be (`change`), or a new key (`rotate`)."""
        requests.post(f"{self.address}/control", json=told, timeout=5).raise_for_status()

    def mint(self, how: str = "", **claims: Any) -> str:
        """A bearer token for the person, with some claims changed (None: left out), signed somehow."""
        answer = requests.post(
            f"{self.address}/mint", json={"claims": {"aud": API, **claims}, "how": how}, timeout=5
        )
        return answer.json()["token"]

    def count(self, path: str) -> int:
        """How often a path was asked for."""
        return requests.get(f"{self.address}/counts", timeout=5).json().get(path, 0)

    def stop(self) -> None:
        """It is away."""
        self.process.kill()
        self.process.wait()

    def sign_in(self, client: Client, path: str = "/login/sso") -> Any:
        """What a browser does: to the issuer, and back with a code. Muster's last answer."""
        return client.get(self.way_back(client, path))

    def way_back(self, client: Client, path: str = "/login/sso") -> str:
        """To where the issuer leads the browser back, with code and state."""
        there = client.get(path)["Location"]
        assert there.startswith(f"{self.address}/authorize?")
        back = requests.get(there, allow_redirects=False, timeout=5).headers["Location"]
        place = urlsplit(back)
        assert dict(parse_qsl(place.query))["code"]
        return f"{place.path}?{place.query}"


@pytest.fixture
def issuer(settings: Any) -> Iterator[Issuer]:
    """A fresh one, with Ada signed in, and Muster told to trust it."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.accounts.issuer"],
        cwd=PROJECT, stdout=subprocess.PIPE, text=True, preexec_fn=die_with_parent,
    )  # fmt: skip
    assert process.stdout is not None
    found = Issuer(process.stdout.readline().strip(), process)
    found.control(person=ADA)
    settings.MUSTER_OIDC = {
        **settings.MUSTER_OIDC,
        "issuer": found.address,
        "client_id": CLIENT,
        "client_secret": SECRET,
        "audiences": [API],
        "domain_claim": "tenant",
        "project_claim": "groups",
    }
    issuers._issuer_at.cache_clear()
    yield found
    found.stop()
