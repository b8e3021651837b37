"""A name and a password for a key, as `cray auth login` asks."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

import pytest
from django.test import Client
from django.utils import timezone

from accounts_app.models import ApiKey, AuditEntry
from config.token_door import LIFE
from tests.factories import PASSWORD, make_nora, make_olga

PATH = "/keycloak/realms/shasta/protocol/openid-connect/token"
# What the command line sends beside name and password: its client's id as a user without a password, and
# texts that were meant for its own library.
BASIC = "Basic Y3JheTo="
BESIDES = {
    "auto_refresh_url": f"https://muster.example{PATH}",
    "auto_refresh_kwargs": "{'client_id': 'cray'}",
}


FORM = "application/x-www-form-urlencoded"


def ask(**form: str) -> Any:
    text = urlencode({**form, **BESIDES})
    return Client().generic("POST", PATH, text, content_type=FORM, headers={"authorization": BASIC})


@pytest.fixture(autouse=True)
def people(db: None, redis_server: Any) -> None:
    make_olga()


def test_a_password_gives_a_key_for_a_day_that_opens_the_doors():
    answer = ask(grant_type="password", username="olga", password=PASSWORD)
    document = answer.json()
    assert answer.status_code == 200
    assert answer["Cache-Control"] == "no-store"
    assert set(document) == {"access_token", "token_type", "expires_in"}
    assert (document["token_type"], document["expires_in"]) == ("Bearer", 86400)
    asked = Client(headers={"authorization": f"Bearer {document['access_token']}"})
    assert asked.get("/apis/bos/v2/sessions").status_code == 200
    key = ApiKey.objects.get()
    assert timezone.now() < key.expires_at <= timezone.now() + LIFE
    assert AuditEntry.objects.get().access_key == key.access_key
    ApiKey.objects.update(expires_at=timezone.now())
    assert asked.get("/apis/bos/v2/sessions").status_code == 401


def test_a_key_may_do_no_more_than_its_owner():
    make_nora()
    token = ask(grant_type="password", username="nora", password=PASSWORD).json()["access_token"]
    answer = Client(headers={"authorization": f"Bearer {token}"}).get("/apis/bos/v2/sessions")
    assert answer.status_code == 403


@pytest.mark.parametrize(
    ("form", "error"),
    [
        ({"grant_type": "password", "username": "olga", "password": "wrong"}, "invalid_grant"),
        ({"grant_type": "password", "username": "nobody", "password": PASSWORD}, "invalid_grant"),
        ({"grant_type": "password", "username": "ol\0ga", "password": PASSWORD}, "invalid_request"),
        ({"grant_type": "password", "username": "olga"}, "invalid_request"),
        ({"grant_type": "refresh_token", "refresh_token": "x"}, "invalid_grant"),
        ({"grant_type": "client_credentials"}, "unsupported_grant_type"),
        ({"grant_type": "password", "username": "olga", "password": "x" * 5000}, "invalid_request"),
    ],
)
def test_what_is_refused_is_refused_as_oauth_says_and_gives_nothing(form, error):
    answer = ask(**form)
    assert (answer.status_code, answer.json()["error"]) == (400, error)
    assert set(answer.json()) == {"error", "error_description"}
    assert not ApiKey.objects.exists()


def test_other_bodies_and_methods_are_refused():
    answer = Client().post(PATH, {"grant_type": "password"}, content_type="application/json")
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_request")
    assert Client().get(PATH).status_code == 405
