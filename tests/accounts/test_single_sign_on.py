"""Signing in at the site's issuer, with a real one: who gets in, and what must not let anybody in."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
from django.contrib.sessions.models import Session
from django.test import Client

from accounts_app import issuer as issuers
from accounts_app.checks import check_issuer
from accounts_app.models import AuditEntry, User
from tests.accounts.conftest import ADA, Issuer
from tests.accounts.test_limits import TOKEN
from tests.factories import PASSWORD, make_domain, make_olga

pytestmark = pytest.mark.django_db
SUPERADMIN = {**ADA, "realm_access": {"roles": ["muster-superadmin"]}}


@pytest.fixture(autouse=True)
def tenant() -> Any:
    """The domain that Ada's claims name."""
    return make_domain("tenant-a")


def audit() -> list[tuple[str, str, int]]:
    return list(AuditEntry.objects.order_by("id").values_list("username", "path", "status"))


def is_in(client: Client) -> bool:
    return client.get("/keys/").status_code == 200


def test_the_button_leads_to_the_issuer_and_back_to_where_one_wanted_to_go(issuer: Issuer):
    client = Client(headers={"accept": "text/html"})
    page = client.get("/login?next=/nodes/").content.decode()
    assert 'href="/login/sso?next=/nodes/"' in page
    before = client.cookies.get("sessionid")
    there = client.get("/login/sso?next=/nodes/")["Location"]
    asked = parse_qs(urlsplit(there).query)
    assert asked["redirect_uri"] == ["http://127.0.0.1:8000/login/sso/callback"]
    assert asked["code_challenge_method"] == ["S256"]
    answer = issuer.sign_in(client, "/login/sso?next=/nodes/")
    assert (answer.status_code, answer["Location"]) == (302, "/nodes/")
    assert before is None
    assert is_in(client)
    user = User.objects.get()
    assert (user.username, user.role, user.domain.name) == ("ada", "user", "tenant-a")
    assert not user.has_usable_password()
    assert audit() == [("ada", "/login/sso/callback", 302)]


def test_asking_to_sign_in_writes_no_row_and_the_cookie_cannot_be_forged(issuer: Issuer):
    client = Client()
    back = issuer.way_back(client)
    assert not Session.objects.exists()
    kept = client.cookies["muster_sso"]
    assert (kept["httponly"], kept["samesite"], kept["path"]) == (True, "Lax", "/login/sso/callback")
    kept.set("muster_sso", kept.value[:-1], kept.value[:-1])
    assert (client.get(back).status_code, is_in(client)) == (403, False)
    far = f"/login/sso?next=/nodes/?q={'x' * 5000}"
    assert len(client.get(far).cookies["muster_sso"].coded_value) < 3000


def test_the_login_gets_a_new_session_and_ends_after_some_hours(issuer: Issuer):
    client = Client()
    back = issuer.way_back(client)
    before = client.session.session_key
    client.get(back)
    assert client.session.session_key not in {None, before}
    assert 11 * 3600 < client.session.get_expiry_age() <= 12 * 3600


def test_a_superadmin_reaches_the_admin_by_the_same_login(issuer: Issuer):
    issuer.control(person=SUPERADMIN)
    client = Client()
    issuer.sign_in(client, "/login/sso?next=/admin/")
    assert client.get("/admin/").status_code == 200


@pytest.mark.parametrize("target", ["https://evil.example/", "//evil.example/", "javascript:alert(1)", ""])
def test_nobody_is_led_elsewhere(issuer: Issuer, target):
    answer = issuer.sign_in(Client(), f"/login/sso?next={target}")
    assert (answer.status_code, answer["Location"]) == (302, "/")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"nonce": "another"}, "can&#x27;t be trusted"),
        ({"aud": "another"}, "another audience"),
        ({"iss": "https://evil.example"}, "another issuer"),
        ({"exp": 1}, "expired"),
        ({"sub": "somebody-else"}, "two people"),
        ({"azp": "another", "aud": ["muster", "another"]}, "can&#x27;t be trusted"),
        ({"typ": "Bearer"}, "another kind"),
        ({"how": "none"}, "damaged"),
        ({"how": "hs256"}, "damaged"),
        ({"how": "impostor"}, "damaged"),
    ],
)
def test_an_id_token_that_is_not_right_lets_nobody_in(issuer: Issuer, change, says):
    issuer.control(change=change)
    client = Client()
    answer = issuer.sign_in(client)
    assert answer.status_code == 403
    assert says in answer.content.decode()
    assert not is_in(client)
    assert not User.objects.exists()
    assert audit() == [("", "/login/sso/callback", 403)]


def test_a_way_back_is_good_once_and_in_its_own_browser_only(issuer: Issuer):
    client, other = Client(), Client()
    back = issuer.way_back(client)
    assert other.get(back).status_code == 403
    assert client.get(back).status_code == 302
    client.post("/logout")
    again = client.get(back)
    assert (again.status_code, is_in(client)) == (403, False)
    assert client.get("/login/sso/callback?code=x&state=y").status_code == 403
    assert client.get("/login/sso/callback").status_code == 403
    assert client.get("/login/sso/callback?error=access_denied&state=y").status_code == 403


def test_who_has_no_role_there_gets_none_here_and_the_audit_knows_his_name(issuer: Issuer):
    issuer.control(person={**ADA, "realm_access": {"roles": ["offline_access"]}})
    client = Client()
    answer = issuer.sign_in(client)
    assert (answer.status_code, "no role" in answer.content.decode()) == (403, True)
    assert not is_in(client)
    assert audit() == [("ada", "/login/sso/callback", 403)]


def test_an_issuer_that_is_away_is_said_to_be(issuer: Issuer):
    client = Client()
    back = issuer.way_back(client)
    issuer.stop()
    assert client.get(back).status_code == 503
    issuers._issuer_at.cache_clear()
    assert client.get("/login/sso").status_code == 503
    assert client.get("/login").status_code == 200  # passwords go on


def test_signing_out_ends_it_there_too_where_the_site_wants_it(issuer: Issuer, settings):
    settings.MUSTER_OIDC = {**settings.MUSTER_OIDC, "logout": True}
    client = Client()
    issuer.sign_in(client)
    place = urlsplit(client.post("/logout")["Location"])
    asked = parse_qs(place.query)
    assert f"{place.scheme}://{place.netloc}{place.path}" == f"{issuer.address}/logout"
    assert asked["post_logout_redirect_uri"] == ["http://127.0.0.1:8000/login"]
    assert asked["id_token_hint"][0].count(".") == 2
    assert not is_in(client)


@pytest.mark.parametrize("passwords", [True, False])
def test_passwords_can_be_switched_off_at_every_door(issuer: Issuer, settings, passwords, redis_server):
    settings.MUSTER_PASSWORDS = passwords
    olga = {"username": make_olga().username, "password": PASSWORD}
    by_form, by_json, by_token = Client(), Client(), Client()
    by_form.post("/login", olga)
    by_json.post("/server/login", olga, content_type="application/json")
    form = urlencode({"grant_type": "password", **olga})
    token = by_token.post(TOKEN, form, content_type="application/x-www-form-urlencoded")
    assert (is_in(by_form), is_in(by_json), "access_token" in token.json()) == (passwords,) * 3
    page = Client().get("/login").content.decode()
    assert ('name="password"' in page, "/login/sso" in page) == (passwords, True)
    client = Client()
    issuer.sign_in(client)
    assert is_in(client)
    settings.MUSTER_OIDC = {**settings.MUSTER_OIDC, "issuer": ""}
    assert [error.id for error in check_issuer(None)] == ([] if passwords else ["accounts_app.E010"])


def test_without_an_issuer_there_is_no_button():
    assert "/login/sso" not in Client().get("/login").content.decode()
    assert Client().get("/login/sso").status_code == 404
