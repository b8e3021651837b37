"""Terraform's HTTP backend: state and its lock in the database, every version kept (contracts, CTS 11.3).

A run is let in by the password that its environment holds, for as long as its worker's claim stands: a
worker that was given up for dead can't write a state any more. People use it with an administrator's key as
the password, whatever the user name.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from typing import Any

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.utils import timezone
from django.views.decorators.csrf import csrf_exempt

from accounts_app.permissions import may
from accounts_app.problems import PROBLEM
from accounts_app.secrets import decrypt, encrypt
from accounts_app.services import find_key
from accounts_app.states import Verb
from events_app.services import record_event, recording
from tasks_app.models import StateVersion, Task, TerraformState
from tasks_app.rendering import run_of_token
from tasks_app.states import WORKING

METHODS = ("GET", "POST", "DELETE", "LOCK", "UNLOCK")


@csrf_exempt  # let in by a password, never by the login cookie
def state(request: HttpRequest, name: str) -> HttpResponse:
    """GET, POST (`?ID=` of the lock), DELETE, LOCK, UNLOCK of a task's state.

    404 where there is none yet, 423 with the holder's description where it is locked, 409 for a write under
    a lock that is not held, 400 for a body that is damaged.
    """
    if request.method not in METHODS:
        response = _refuse(405, "This method is not known here.")
        response["Allow"] = ", ".join(METHODS)
        return response
    task, run_id = _identify(request, name)
    if task is None:
        response = _refuse(401, "The state is open to a run at work and to administrators' keys.")
        response["WWW-Authenticate"] = 'Basic realm="muster"'
        return response
    with recording():
        TerraformState.of(task.name, task.domain_id)
        row = TerraformState.objects.select_for_update(of=("self",)).get(name=task.name, domain=task.domain)
        return _ACTIONS[request.method](request, row, task, run_id)


def _identify(request: HttpRequest, name: str) -> tuple[Task | None, int | None]:
    """The task whose state may be used, and the run that uses it."""
    scheme, _, code = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "basic":
        return None, None
    try:
        _, _, password = base64.b64decode(code, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return None, None
    run = run_of_token(password)
    if run is not None:
        fits = run.task.name == name and run.status in WORKING
        return (run.task, run.pk) if fits else (None, None)
    key = find_key(password)
    if key is None or "\x00" in name or not key.opens(request.path) or not may(key.user, Verb.ADMIN, key):
        return None, None
    return Task.objects.existing().visible_to(key.user).filter(name=name).first(), None


def _refuse(status: int, detail: str) -> JsonResponse:
    body = {"type": "about:blank", "title": detail, "status": status, "detail": detail}
    return JsonResponse(body, status=status, content_type=PROBLEM)


def _get(request: HttpRequest, row: TerraformState, task: Task, run_id: int | None) -> HttpResponse:
    version = row.versions.order_by("-serial").first()
    if version is None or not version.encrypted:
        return _refuse(404, "There is no state yet.")
    content = base64.b64decode(decrypt(version.encrypted)["state"])
    return HttpResponse(content, content_type="application/json")


def _post(request: HttpRequest, row: TerraformState, task: Task, run_id: int | None) -> HttpResponse:
    held = request.GET.get("ID", "")
    if row.lock_id and row.lock_id != held:
        return JsonResponse(row.lock_info, status=423)
    if held and not row.lock_id:
        return _refuse(409, "The lock is not held any more.")
    content = request.body
    md5 = hashlib.md5(content, usedforsecurity=False).digest()
    wanted = request.headers.get("Content-MD5", "")
    if wanted and wanted != base64.b64encode(md5).decode():
        return _refuse(400, "The body does not fit its Content-MD5.")
    try:
        is_state = isinstance(json.loads(content), dict)
    except ValueError:
        is_state = False
    if not is_state:
        return _refuse(400, "A state is a JSON object.")
    _add_version(row, content, md5.hex(), run_id)
    return HttpResponse(status=200)


def _add_version(row: TerraformState, content: bytes, md5: str, run_id: int | None) -> None:
    row.serial += 1
    row.save(update_fields=["serial"])
    encrypted = encrypt({"state": base64.b64encode(content).decode()}) if content else ""
    StateVersion.objects.create(
        state=row, serial=row.serial, encrypted=encrypted, md5=md5, run_id=run_id, created_at=timezone.now()
    )


def _delete(request: HttpRequest, row: TerraformState, task: Task, run_id: int | None) -> HttpResponse:
    if row.lock_id and row.lock_id != request.GET.get("ID", ""):
        return JsonResponse(row.lock_info, status=423)
    if row.versions.exists():
        _add_version(row, b"", "", run_id)  # the versions before it stay
    return HttpResponse(status=200)


def _lock(request: HttpRequest, row: TerraformState, task: Task, run_id: int | None) -> HttpResponse:
    info = _lock_info(request)
    if info is None or not isinstance(info.get("ID"), str) or not 0 < len(info["ID"]) <= 64:
        return _refuse(400, "A lock is a JSON object with an ID.")
    if row.lock_id:
        return JsonResponse(row.lock_info, status=423)
    _set_lock(row, info["ID"], info, run_id)
    return HttpResponse(status=200)


def _unlock(request: HttpRequest, row: TerraformState, task: Task, run_id: int | None) -> HttpResponse:
    """`terraform force-unlock` sends no lock: who is let in may break the one there is."""
    info = _lock_info(request)
    if info and row.lock_id and info.get("ID") != row.lock_id:
        return JsonResponse(row.lock_info, status=409)
    if not info and row.lock_id:
        record_event(**task.event("task_state_unlocked", lock=row.lock_info))
    _set_lock(row, "", None, None)
    return HttpResponse(status=200)


def _lock_info(request: HttpRequest) -> dict[str, Any] | None:
    try:
        info = json.loads(request.body or b"null")
    except ValueError:
        return None
    return info if isinstance(info, dict) else None


def _set_lock(row: TerraformState, lock_id: str, info: Any, run_id: int | None) -> None:
    row.lock_id, row.lock_info, row.locked_by_run = lock_id, info, run_id
    row.locked_at = timezone.now() if lock_id else None
    row.save(update_fields=["lock_id", "lock_info", "locked_by_run", "locked_at"])


_ACTIONS = {"GET": _get, "POST": _post, "DELETE": _delete, "LOCK": _lock, "UNLOCK": _unlock}
