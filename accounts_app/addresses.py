"""From where a request comes, when proxies stand in between."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from django.conf import settings
from django.http import HttpRequest, HttpResponse

Networks = tuple[IPv4Network | IPv6Network, ...]


class AddressMiddleware:
    """Puts the client's own address into REMOTE_ADDR: for the audit, and for what is counted by address."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        """Believes X-Forwarded-For as far as the proxies of MUSTER_TRUSTED_PROXIES wrote it."""
        trusted = networks(tuple(settings.MUSTER_TRUSTED_PROXIES))
        if trusted:
            forwarded = request.META.get("HTTP_X_FORWARDED_FOR", "").split(",")
            request.META["REMOTE_ADDR"] = client_address(
                request.META.get("REMOTE_ADDR") or "", forwarded, trusted
            )
        return self.get_response(request)


@lru_cache(maxsize=8)
def networks(texts: tuple[str, ...]) -> Networks:
    """Networks and single addresses. Raises ValueError."""
    return tuple(ip_network(text) for text in texts)


def client_address(peer: str, forwarded: Sequence[str], trusted: Networks) -> str:
    """The right-most address that is no trusted proxy's: what stands left of it anybody may have written."""
    address = peer
    for text in [*reversed(forwarded), ""]:
        if not is_in(address, trusted):
            return address
        found = _parse(text)
        if found is None:
            return address
        address = str(found)
    return address


def is_in(address: str, inside: Networks) -> bool:
    """Whether an address is one of some networks; what is no address is in none."""
    found = _parse(address)
    return found is not None and any(found in network for network in inside)


def _parse(text: str) -> IPv4Address | IPv6Address | None:
    try:
        address = ip_address(text.strip())
    except ValueError:
        return None
    # An IPv4 client of a socket for both is written as ::ffff:1.2.3.4.
    return getattr(address, "ipv4_mapped", None) or address
