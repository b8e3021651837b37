"""One's own keys: the secret is shown once, a key never does more than its user may."""

import re

import pytest

from accounts_app.models import ApiKey

pytestmark = pytest.mark.django_db


def make(client, **values):
    return client.post("/keys/", {"name": "batch", "scope": "operate", "days": "30", **values})


def test_the_token_is_shown_once_and_works(olga, client):
    text = make(olga).content.decode()
    token = re.search(r"mst_[A-Z0-9]+_[0-9a-f]+", text)[0]
    headers = {"authorization": f"Bearer {token}"}
    assert client.get("/apis/bos/v2/sessions", headers=headers).status_code == 200
    assert token not in olga.get("/keys/").content.decode()


def test_a_viewers_key_can_only_read(victor):
    assert make(victor).status_code == 400
    assert make(victor, scope="read").status_code == 200
    assert ApiKey.objects.get().scope == "read"


def test_revoking_asks_first_and_is_for_ones_own_keys(olga, victor):
    make(olga)
    key = ApiKey.objects.get()
    path = f"/keys/{key.access_key}/revoke"
    asked = olga.get(path).content.decode()
    assert "can&#x27;t be brought back" in asked
    assert victor.post(path).status_code == 404
    assert ApiKey.objects.get().is_usable
    olga.post(path, {"digest": re.search(r'name="digest" value="([^"]*)"', asked)[1]})
    assert not ApiKey.objects.get().is_usable


def test_a_key_needs_a_name(olga):
    assert make(olga, name="").status_code == 400
    assert not ApiKey.objects.exists()
