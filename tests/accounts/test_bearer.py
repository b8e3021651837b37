"""Bearer tokens of the site's issuer, over real HTTP with a real issuer: who gets in, and what he may."""

from __future__ import annotations

import time
from typing import Any

import pytest
from django.contrib.auth.models import Group
from django.test import Client

from accounts_app import issuer as issuers
from accounts_app.checks import check_issuer
from accounts_app.models import AuditEntry, User
from accounts_app.states import Role
from config.streams import identify, recheck
from events_app.live import answers
from events_app.live.doors import Caller
from tests.accounts.conftest import Issuer
from tests.factories import make_domain, make_node, make_user

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def tenant() -> Any:
    """The domain that Ada's claims name."""
    return make_domain("tenant-a")


def ask(token: str, path: str = "/api/v1/me", **more: Any) -> Any:
    return Client(headers={"authorization": f"Bearer {token}"}).get(path, **more)


def test_claims_say_who_somebody_is_at_every_door(issuer: Issuer):
    Group.objects.create(name="physics")
    make_node("x1c0s0b0n0", domain=make_domain("tenant-b"))
    me = ask(issuer.mint()).json()
    assert (me["username"], me["role"], me["domain"], me["projects"]) == (
        "ada",
        "user",
        "tenant-a",
        ["physics"],
    )
    assert me["verbs"] == ["read", "operate"]
    for path in ("/v2/sessions", "/apis/bos/v1/session", "/v1/status/tasks", "/api/v1/workflows"):
        assert ask(issuer.mint(), path).status_code == 200, path
    assert ask(issuer.mint(), "/api/v1/nodes/").json()["count"] == 0  # the other tenant's
    user = User.objects.get(username="ada")
    assert not user.has_usable_password()
    assert (user.is_staff, user.is_superuser) == (False, False)


def test_what_changes_at_the_issuer_changes_here_and_a_lost_role_is_lost(issuer: Issuer):
    roles = {"realm_access": {"roles": ["muster-viewer", "muster-superadmin"]}}
    assert ask(issuer.mint(**roles)).json()["role"] == "superadmin"
    assert User.objects.get().is_superuser
    assert ask(issuer.mint()).json()["role"] == "user"
    answer = ask(issuer.mint(realm_access={"roles": ["other"]}))
    assert (answer.status_code, "no role" in answer.json()["detail"]) == (401, True)
    user = User.objects.get()
    assert (user.role, user.is_superuser, user.is_staff) == (Role.NONE, False, False)


@pytest.mark.parametrize(
    ("how", "claims", "says"),
    [
        ("", {"exp": 1}, "expired"),
        ("", {"exp": None}, "missing or wrong"),
        ("", {"nbf": 4102444800}, "not valid yet"),
        ("", {"aud": "somebody-else"}, "another audience"),
        ("", {"aud": None}, "another audience"),
        ("", {"iss": "https://evil.example"}, "another issuer"),
        ("", {"typ": "ID"}, "another kind"),
        ("", {"tenant": "nowhere"}, "does not exist"),
        ("", {"tenant": None}, "which one domain"),
        ("", {"tenant": ["tenant-a", "tenant-b"]}, "which one domain"),
        ("", {"preferred_username": "a\nb"}, "no name"),
        ("", {"sub": None}, "missing or wrong"),
        ("", {"scope": "openid muster:everything"}, "means nothing"),
        ("", {"scope": ["openid", "muster:everything"]}, "means nothing"),
        ("", {"scope": {"muster:read": True}}, "means nothing"),
        ("", {"sub": "a\0b"}, "no subject"),
        ("", {"tenant": "a\r\nSet-Cookie: b"}, "which one domain"),
        ("", {"tenant": 'a", error="none'}, "does not exist"),
        ("none", {}, "damaged"),
        ("hs256", {}, "damaged"),
        ("impostor", {}, "damaged"),
        ("stranger", {}, "does not publish"),
    ],
)
def test_a_wrong_token_is_refused_and_nothing_of_it_is_kept(issuer: Issuer, how, claims, says):
    answer = ask(issuer.mint(how, **claims), "/api/v1/nodes/")
    assert answer.status_code == 401
    assert says in answer.json()["detail"]
    assert answer["WWW-Authenticate"].startswith('Bearer realm="muster", error="invalid_token"')
    assert answer["WWW-Authenticate"].count('"') == 6
    assert not User.objects.exists()


def test_a_name_that_is_taken_here_is_not_given_to_somebody_from_there(issuer: Issuer):
    make_user("ada", Role.SUPERADMIN)
    assert "not the issuer's" in ask(issuer.mint()).json()["detail"]
    assert User.objects.get().subject is None


def test_an_account_that_is_switched_off_here_stays_out(issuer: Issuer):
    assert ask(issuer.mint()).status_code == 200
    User.objects.update(is_active=False)
    assert ask(issuer.mint()).status_code == 401


def test_scopes_narrow_what_a_token_may_do(issuer: Issuer):
    assert ask(issuer.mint(scope=["muster:read"], exp=10**30)).json()["verbs"] == ["read"]
    token = issuer.mint(scope="openid muster:read muster:nodes")
    me = ask(token).json()
    assert (me["verbs"], me["areas"]) == (["read"], ["nodes"])
    assert ask(token, "/api/v1/nodes/").status_code == 200
    assert ask(token, "/api/v1/sessions/").status_code == 403
    # A key would outlive the token that made it.
    client = Client(headers={"authorization": f"Bearer {issuer.mint()}"})
    assert client.post("/api/v1/keys/", {"scope": "read"}, content_type="application/json").status_code == 403
    assert list(AuditEntry.objects.values_list("username", "status")) == [("ada", 403)]


def test_a_new_key_is_found_at_once_and_strangers_do_not_make_us_ask_again_and_again(issuer: Issuer):
    assert ask(issuer.mint()).status_code == 200
    old = issuer.mint()
    issuer.control(rotate=True)
    assert ask(issuer.mint()).status_code == 200
    assert ask(old).status_code == 401  # its key is published no more
    for _ in range(10):
        assert ask(issuer.mint("stranger")).status_code == 401
    assert issuer.count("/keys") == 2


def test_known_keys_go_on_while_the_issuer_is_away(issuer: Issuer, monkeypatch):
    first, second, unknown = issuer.mint(), issuer.mint(), issuer.mint("stranger")
    assert ask(first).status_code == 200
    issuer.stop()
    monkeypatch.setattr(issuers, "FRESH", -1)  # what is kept counts as old at once
    assert ask(second).status_code == 200
    assert "does not publish" in ask(unknown).json()["detail"]
    issuers._issuer_at.cache_clear()
    assert "can't be reached" in ask(second).json()["detail"]


def test_a_stream_ends_with_its_token(issuer: Issuer):
    def caller(token: str) -> Caller:
        return Caller("GET", "/events/session", {"authorization": f"Bearer {token}"}, False)

    user, long = identify(caller(issuer.mint()))
    _, short = identify(caller(issuer.mint(exp=int(time.time()) + 1)))
    assert (user.username, long.domain) == ("ada", "tenant-a")
    assert long not in recheck({long})
    time.sleep(max(0, short.until - time.time()))
    assert recheck({long, short}) == {short}
    with pytest.raises(answers.Refused) as refused:
        identify(caller(issuer.mint(exp=1)))
    assert (refused.value.status, "invalid_token" in refused.value.headers["WWW-Authenticate"]) == (401, True)
    with pytest.raises(answers.Refused) as refused:
        identify(caller(issuer.mint(scope="muster:nodes")))
    assert refused.value.status == 403


@pytest.mark.parametrize(
    ("wrong", "number"),
    [
        ({"issuer": "http://sso.example.org"}, "E003"),
        ({"algorithms": ["RS256", "HS256"]}, "E004"),
        ({"algorithms": ["none"]}, "E004"),
        ({"algorithms": []}, "E004"),  # the library would take its own list
        ({"roles": {"boss": "emperor"}}, "E005"),
        ({"client_id": "", "audiences": []}, "E006"),
        ({}, None),
    ],
)
def test_settings_that_cannot_be_trusted_stop_the_start(settings, wrong, number):
    good = {"issuer": "https://sso.example.org/realms/x", "audiences": ["muster-api"]}
    settings.MUSTER_OIDC = {**settings.MUSTER_OIDC, **good, **wrong}
    assert [error.id for error in check_issuer(None)] == ([f"accounts_app.{number}"] if number else [])


def test_without_an_audience_no_token_is_taken(issuer: Issuer, settings):
    settings.MUSTER_OIDC = {**settings.MUSTER_OIDC, "audiences": []}
    assert ask(issuer.mint()).status_code == 401
    assert issuer.count("/keys") == 0
