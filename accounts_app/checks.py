"""System checks that speak plainly about keys, the site's issuer, proxies and the audit's archive."""

from typing import Any
from urllib.parse import urlsplit

from cryptography.fernet import Fernet
from django.conf import settings
from django.core.checks import Error, register

from accounts_app.addresses import networks
from accounts_app.states import Role

# Signed by one, checked by all: with a symmetric one whoever can check a token can make one.
ALGORITHMS = frozenset(
    {"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA", "Ed25519"}
)


@register()
def check_encryption_keys(app_configs: Any, **kwargs: Any) -> list[Error]:
    """Each encryption key must be one that Fernet takes: 32 bytes in URL-safe base64."""
    problems = []
    if not settings.MUSTER_ENCRYPTION_KEYS:
        problems.append(
            Error(
                "There is no encryption key, so no BMC password could be stored.",
                hint="Set MUSTER_ENCRYPTION_KEYS, or leave it unset to have one made below MUSTER_HOME.",
                id="accounts_app.E001",
            )
        )
    for place, key in enumerate(settings.MUSTER_ENCRYPTION_KEYS, start=1):
        try:
            Fernet(key)
        except ValueError:
            problems.append(
                Error(
                    f"Encryption key number {place} of MUSTER_ENCRYPTION_KEYS is not a Fernet key.",
                    hint="Make one: python -c 'from cryptography.fernet import Fernet; "
                    "print(Fernet.generate_key().decode())'",
                    id="accounts_app.E002",
                )
            )
    return problems


@register()
def check_issuer(app_configs: Any, **kwargs: Any) -> list[Error]:
    """The site's OpenID Connect issuer, where one is configured, must be one that can be trusted."""
    known = settings.MUSTER_OIDC
    if not settings.MUSTER_PASSWORDS and not (known["issuer"] and known["client_id"]):
        why = "With MUSTER_PASSWORDS off and no single sign-on nobody can sign in."
        return [Error(why, hint="docs/identity.md", id="accounts_app.E010")]
    if not known["issuer"]:
        return []
    wrong = []
    place = urlsplit(known["issuer"])
    if place.scheme != "https" and place.hostname not in {"127.0.0.1", "localhost", "::1"}:
        wrong.append(("MUSTER_OIDC_ISSUER must begin with https://.", "E003"))
    unknown = sorted(set(known["algorithms"]) - ALGORITHMS)
    if unknown or not known["algorithms"]:
        wrong.append(
            (f"MUSTER_OIDC_ALGORITHMS may not have {', '.join(unknown) or 'nothing'} in it.", "E004")
        )
    roles = sorted({str(role) for role in known["roles"].values()} - set(Role.values))
    if roles:
        wrong.append((f"MUSTER_OIDC_ROLES names roles that there are not: {', '.join(roles)}.", "E005"))
    if not known["client_id"] and not known["audiences"]:
        wrong.append(
            ("MUSTER_OIDC_ISSUER needs MUSTER_OIDC_CLIENT_ID, MUSTER_OIDC_AUDIENCES or both.", "E006")
        )
    return [Error(text, hint="docs/identity.md", id=f"accounts_app.{number}") for text, number in wrong]


@register()
def check_audit_webhook(app_configs: Any, **kwargs: Any) -> list[Error]:
    """An archive that can't tell who writes to it is none; nor is one that isn't reached by HTTP."""
    address = urlsplit(settings.MUSTER_AUDIT_WEBHOOK)
    if not settings.MUSTER_AUDIT_WEBHOOK:
        return []
    problems = []
    if address.scheme not in ("https", "http") or not address.hostname or address.username:
        hint = "Write https://archive.example/muster, without user and password."
        problems.append(
            Error("MUSTER_AUDIT_WEBHOOK is not the address of a web page.", hint=hint, id="accounts_app.E007")
        )
    if len(settings.MUSTER_AUDIT_WEBHOOK_SECRET) < 16:
        problems.append(
            Error("MUSTER_AUDIT_WEBHOOK_SECRET has less than 16 characters.", id="accounts_app.E008")
        )
    return problems


@register()
def check_networks(app_configs: Any, **kwargs: Any) -> list[Error]:
    """Each must be an address or a network."""
    problems = []
    for name in ("MUSTER_TRUSTED_PROXIES", "MUSTER_BOOT_NETWORKS"):
        try:
            networks(tuple(getattr(settings, name)))
        except ValueError as error:
            problems.append(Error(f"{name}: {error}.", id="accounts_app.E009"))
    return problems
