"""People whom the site's issuer vouches for: their row follows their claims."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.models import Group
from django.db import IntegrityError, transaction

from accounts_app.claims import NotMapped, Person
from accounts_app.models import Domain, User
from accounts_app.states import Role

NO_ROLE = "The issuer gives this account no role here. Ask whoever administers it for one."


def know_person(person: Person) -> User:
    """The user that a person is, made at first sight (without a password), changed where the claims changed.

    A person whose role is taken from him at the issuer loses it here, too, and with it what his keys may do.
    Raises NotMapped.
    """
    try:
        with transaction.atomic():
            user = _find(person)
    except IntegrityError:  # somebody else made the same row at the same time
        with transaction.atomic():
            user = _find(person)
    if not user.is_active:
        raise NotMapped("This account is switched off.")
    if user.role == Role.NONE:
        raise NotMapped(NO_ROLE)
    return user


def _find(person: Person) -> User:
    user = User.objects.select_related("domain").filter(subject=person.subject).first()
    if user is None:
        if person.role == Role.NONE:
            raise NotMapped(NO_ROLE)
        if User.objects.filter(username=person.username).exists():
            # Whoever could choose his name at the issuer would become anybody here.
            raise NotMapped("There is an account of this name here already, and it is not the issuer's.")
        user = User(username=person.username, subject=person.subject)
        user.set_unusable_password()
    manages = person.role == Role.SUPERADMIN
    wanted: dict[str, Any] = {"role": person.role, "is_staff": manages, "is_superuser": manages}
    if person.domain is not None and person.role != Role.NONE:
        wanted["domain"] = _domain(person.domain)
    changed = [name for name, value in wanted.items() if getattr(user, name) != value]
    for name in changed:
        setattr(user, name, wanted[name])
    if user.pk is None:
        user.save()
    elif changed:
        user.save(update_fields=changed)
    if person.projects is not None:
        user.groups.set(Group.objects.filter(name__in=person.projects))
    return user


def _domain(name: str) -> Domain | None:
    if not name:
        return None
    domain = Domain.objects.filter(name=name).first()
    if domain is None:
        raise NotMapped(
            f"The issuer puts this account into the domain {name[:127]}, which does not exist here."
        )
    return domain
