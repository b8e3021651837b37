"""Who a booted node is: the one-time token of its boot script."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rest_framework.authentication import BaseAuthentication, get_authorization_header
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.request import Request

from sessions_app.models import BootToken
from sessions_app.services import token_is_valid

MARK = b"mnt_"  # what every token of a node begins with (services.issue_boot_token)
UNKNOWN = "The node's token is unknown or void."


@dataclass(frozen=True)
class BootedNode:
    """A node as the user of a request: it may report what it runs, and nothing else."""

    token: BootToken
    is_authenticated: bool = True
    is_active: bool = True
    is_superadmin: bool = False
    domain: Any = None
    domain_id: int | None = None
    pk: int | None = None

    @property
    def username(self) -> str:
        """For events and the audit."""
        return f"node {self.token.node.name}"

    def get_username(self) -> str:
        """As a user's."""
        return self.username

    def may(self, verb: str) -> bool:
        """Nothing that people and programs may."""
        return False


class NodeAuthentication(BaseAuthentication):
    """`Authorization: Bearer TOKEN` with a node's token; `request.auth` is the BootToken."""

    def authenticate(self, request: Request) -> tuple[BootedNode, BootToken] | None:
        """None for every other kind of token; AuthenticationFailed (401) for an unknown or void one."""
        words = get_authorization_header(request).split()
        if len(words) != 2 or words[0].lower() != b"bearer" or not words[1].startswith(MARK):
            return None
        token = valid_token(words[1].decode("latin-1"))
        if token is None:
            raise AuthenticationFailed(UNKNOWN)
        return BootedNode(token), token

    def authenticate_header(self, request: Request) -> str:
        return 'Bearer realm="muster"'


def valid_token(text: str) -> BootToken | None:
    """The token's row while it may be used."""
    token = BootToken.objects.find(text)
    return token if token is not None and token_is_valid(token) else None
