"""A small OpenID Connect issuer, for tests: `python -m tests.accounts.issuer` prints its address and serves.

Discovery, keys, authorization code with PKCE, token, userinfo, as the specifications have them; signed with
Authlib's own joserfc. Whoever comes to `/authorize` is signed in at once as the person that `/control` named.
`/mint` makes tokens to order, wrong ones too.
"""

from __future__ import annotations

import base64
import hmac
import json
import secrets
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

from authlib.oauth2.rfc7636 import create_s256_code_challenge
from joserfc import jwt
from joserfc.jwk import RSAKey

CLIENT, SECRET, API = "muster", "of-the-client", "muster-api"


def encoded(part: dict[str, Any]) -> str:
    """A part of a token."""
    return base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=")


class State:
    """What the issuer knows."""

    def __init__(self) -> None:
        self.address = ""
        self.keys: list[RSAKey] = []
        self.person: dict[str, Any] = {}
        self.change: dict[str, Any] = {}  # claims of ID tokens, as they should not be
        self.codes: dict[str, dict[str, str]] = {}
        self.counts: dict[str, int] = {}
        self.add_key()

    def add_key(self) -> None:
        """Sign with a new key; the ones before are published no more."""
        self.keys = [RSAKey.generate_key(2048, {"use": "sig", "alg": "RS256"}, auto_kid=True)]

    def claims(self, **more: Any) -> dict[str, Any]:
        """Of the person who is signed in."""
        now = int(time.time())
        return {"iss": self.address, "iat": now, "exp": now + 300, **self.person, **more}

    def sign(self, claims: dict[str, Any], how: str = "") -> str:
        """A token, signed as it should be or in one of the ways that must be refused."""
        key = self.keys[0]
        header: dict[str, Any] = {"alg": "RS256", "kid": key.kid}
        if how == "none":
            return jwt.encode({"alg": "none", "kid": key.kid}, claims, key, algorithms=["none"])
        if how == "hs256":  # with the published key as the secret, for checkers that let the token choose
            text = ".".join(map(encoded, ({"alg": "HS256", "kid": key.kid}, claims)))
            digest = hmac.digest(key.as_pem(private=False), text.encode(), "sha256")
            return f"{text}.{base64.urlsafe_b64encode(digest).decode().rstrip('=')}"
        if how in {"stranger", "impostor"}:
            other = RSAKey.generate_key(2048, auto_kid=True)
            header["kid"] = other.kid if how == "stranger" else key.kid
            key = other
        return jwt.encode(header, claims, key, algorithms=["RS256"])


STATE = State()


class Handler(BaseHTTPRequestHandler):
    """One request."""

    def log_message(self, *args: Any) -> None:
        """Quiet."""

    def answer(self, body: Any, status: int = 200, **headers: str) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", **headers}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def do_GET(self) -> None:
        place = urlsplit(self.path)
        asked = {name: values[0] for name, values in parse_qs(place.query).items()}
        STATE.counts[place.path] = STATE.counts.get(place.path, 0) + 1
        if place.path == "/.well-known/openid-configuration":
            self.answer(
                {
                    "issuer": STATE.address,
                    "authorization_endpoint": f"{STATE.address}/authorize",
                    "token_endpoint": f"{STATE.address}/token",
                    "userinfo_endpoint": f"{STATE.address}/userinfo",
                    "end_session_endpoint": f"{STATE.address}/logout",
                    "jwks_uri": f"{STATE.address}/keys",
                    # Some issuers publish more than anybody should take.
                    "id_token_signing_alg_values_supported": ["RS256", "HS256", "none"],
                }
            )
        elif place.path == "/keys":
            self.answer({"keys": [key.as_dict(private=False) for key in STATE.keys]})
        elif place.path == "/authorize":
            self.authorize(asked)
        elif place.path == "/userinfo":
            token = self.headers.get("Authorization", "").removeprefix("Bearer ")
            known = jwt.decode(token, STATE.keys[0]).claims
            self.answer({name: value for name, value in STATE.person.items() if known["sub"]})
        elif place.path == "/counts":
            self.answer(STATE.counts)
        else:
            self.answer({}, 404)

    def authorize(self, asked: dict[str, str]) -> None:
        good = asked.get("response_type") == "code" and asked.get("client_id") == CLIENT
        if not good or asked.get("code_challenge_method") != "S256" or "openid" not in asked["scope"]:
            self.answer({"error": "invalid_request"}, 400)
            return
        code = secrets.token_urlsafe(16)
        STATE.codes[code] = asked
        back = urlencode({"code": code, "state": asked["state"]})
        self.answer({}, 302, Location=f"{asked['redirect_uri']}?{back}")

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
        if self.path == "/token":
            self.token({name: values[0] for name, values in parse_qs(body).items()})
            return
        told = json.loads(body)
        if self.path == "/mint":
            self.answer({"token": STATE.sign(STATE.claims(**told.get("claims", {})), told.get("how", ""))})
        elif self.path == "/control":
            STATE.person = told.get("person", STATE.person)
            STATE.change = told.get("change", {})
            if told.get("rotate"):
                STATE.add_key()
            self.answer({})

    def token(self, asked: dict[str, str]) -> None:
        pair = base64.b64decode(self.headers.get("Authorization", "").removeprefix("Basic ")).decode()
        given = STATE.codes.pop(asked.get("code", ""), None)  # a code is good once
        good = (
            given is not None
            and pair == f"{CLIENT}:{SECRET}"
            and given["redirect_uri"] == asked.get("redirect_uri")
            and create_s256_code_challenge(asked.get("code_verifier", "")) == given["code_challenge"]
        )
        if not good or given is None:
            self.answer({"error": "invalid_grant"}, 400)
            return
        how = STATE.change.pop("how", "")
        about = {"aud": CLIENT, "nonce": given.get("nonce"), "typ": "ID", **STATE.change}
        # As Keycloak does by itself: the roles are told of by userinfo, not in the ID token.
        claims = {name: value for name, value in STATE.claims(**about).items() if name != "realm_access"}
        access = STATE.sign(STATE.claims(aud=API, typ="Bearer"))
        self.answer({"access_token": access, "id_token": STATE.sign(claims, how), "token_type": "Bearer"})


if __name__ == "__main__":
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    STATE.address = f"http://127.0.0.1:{server.server_port}"
    print(STATE.address, flush=True)
    server.serve_forever()
