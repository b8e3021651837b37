"""What the web process and the gateway say to each other beside the request itself."""

from __future__ import annotations

from collections.abc import Iterable

from django.utils.crypto import salted_hmac

PASS_HEADER = "X-Muster-Pass"  # noqa: S105  (the header's name)
NO_REPLICA = "X-Muster-No-Replica"  # the answer is the gateway's own: nobody could be reached
# A gateway or replica that was replaced a moment ago, or the only one that starts again: worth a short wait.
GAP_SECONDS = 3.0
LOOK_AGAIN = 0.1
SPARE_SECONDS = 10.0  # the web process waits so much longer than the gateway does

# Headers that belong to one connection, and those of our own doors: a service never sees a caller's key.
KEPT_BACK = frozenset(
    {
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "host",
        "content-length",
        "authorization",
        "x-api-key",
        "cookie",
        "set-cookie",
        "x-csrftoken",
        "expect",
        PASS_HEADER.lower(),
        NO_REPLICA.lower(),
    }
)


def gateway_pass() -> str:
    """Proves that a request comes from a process that has this installation's secret key."""
    return salted_hmac("muster.gateway", "pass", algorithm="sha256").hexdigest()


def passing_headers(headers: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Those headers that go through, in both directions."""
    return {name: value for name, value in headers if name.lower() not in KEPT_BACK}
