"""`manage.py bootstrap`: makes an empty database one to work with; repeating it changes nothing."""

from __future__ import annotations

import json
import os
import secrets
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError, transaction

from accounts_app.models import User
from accounts_app.services import find_key, issue_key
from accounts_app.states import Role
from sessions_app import sample

FIRST_USER = "admin"


class Command(BaseCommand):
    """Migrations, the first user with his key, and an emulated fleet where one is named."""

    help = "Migrate the database, make the first user and his key, register an emulated fleet."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """`--credentials` is written with mode 0600; `--fleet` is what deploy.emulated_fleet planned."""
        parser.add_argument("--credentials", type=Path, default=Path(settings.HOME) / "credentials.json")
        parser.add_argument(
            "--url", default=settings.MUSTER_URL, help="how programs on this machine reach it"
        )
        parser.add_argument("--fleet", type=Path, help="JSON file: url and nodes (xname, nid, mac, system)")

    def handle(self, *args: Any, **options: Any) -> None:
        """Do it. Raises CommandError with one sentence."""
        try:
            call_command("migrate", interactive=False, verbosity=options["verbosity"])
            fleet = json.loads(options["fleet"].read_text()) if options["fleet"] else None
            with transaction.atomic():
                user, password = first_user(known=_read(options["credentials"]))
                credentials = credentials_of(user, password, known=_read(options["credentials"]))
            if fleet:
                sample.register_fleet(url=fleet["url"], nodes=fleet["nodes"])
                sample.save_template()
        except DatabaseError as error:
            raise CommandError(f"the database answers: {str(error).strip()}") from None
        except OSError as error:
            raise CommandError(f"{error.filename}: {error.strerror}") from None
        credentials |= {"url": options["url"], "fleet": fleet["url"] if fleet else None}
        _write(options["credentials"], credentials)


def first_user(*, known: dict[str, Any]) -> tuple[User, str]:
    """The user of bin/up and his password: a new one where there is none or nobody knows it."""
    user, made = User.objects.get_or_create(
        username=FIRST_USER, defaults={"role": Role.SUPERADMIN, "is_staff": True, "is_superuser": True}
    )
    password = known.get("password") if known.get("username") == FIRST_USER else None
    if made or not password:
        # A password that he has changed since is his: then the file's is out of date and stays so.
        password = secrets.token_urlsafe(15)
        user.set_password(password)
        user.save()
    return user, password


def credentials_of(user: User, password: str, *, known: dict[str, Any]) -> dict[str, Any]:
    """What credentials.json says of the user; his key is issued once and then kept."""
    names = ("token", "access_key", "secret_key")
    if known.get("token") and find_key(known["token"]):
        key = {name: known[name] for name in names}
    else:
        issued = issue_key(user=user, actor=user, name="bin/up")
        key = {name: getattr(issued, name) for name in names}
    return {"username": user.username, "password": password, **key}


def _read(path: Path) -> dict[str, Any]:
    try:
        stored = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return stored if isinstance(stored, dict) else {}


def _write(path: Path, values: dict[str, Any]) -> None:
    order = ("url", "username", "password", "token", "access_key", "secret_key", "fleet")
    temporary = path.with_name(f".{path.name}.new")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        json.dump({name: values[name] for name in order}, file, indent=2)
        file.write("\n")
    temporary.replace(path)
