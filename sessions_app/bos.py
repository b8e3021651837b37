"""What both doors of BOS share: bodies in, documents and problems out, tenants, times."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any, ClassVar

from django.core.exceptions import RequestDataTooBig
from django.db import OperationalError
from django.http import HttpResponse
from jsonschema import Draft4Validator
from jsonschema.exceptions import ValidationError
from rest_framework.exceptions import ParseError
from rest_framework.negotiation import BaseContentNegotiation
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.settings import api_settings
from rest_framework.views import APIView

from accounts_app.models import Domain
from accounts_app.parsers import check_storable, is_storable
from accounts_app.states import Verb
from sessions_app.authentication import NodeAuthentication
from sessions_app.limit import LimitError
from sessions_app.services import NAME, Refused

log = logging.getLogger(__name__)

PROBLEM = "application/problem+json"
TITLES = {404: "The resource was not found", 409: "The resource to be created already exists"}
REASONS = {
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    405: "Method Not Allowed",
    413: "Content Too Large",
    415: "Unsupported Media Type",
    422: "Unprocessable Content",
    429: "Too Many Requests",
    503: "Service Unavailable",
}
NOT_ALLOWED = "The method is not allowed for the requested URL."
TENANT_HEADER = "HTTP_CRAY_TENANT_NAME"
JSON_TYPE = re.compile(r"application/(?:.+\+)?json")


class Problem(Exception):
    """Ends a request with a problem document; the usual title of its status unless given."""

    def __init__(self, status: int, detail: str, title: str = "") -> None:
        super().__init__(detail)
        self.status, self.detail, self.title = status, detail, title


def not_found(kind: str, name: str, domain: Domain | None = None) -> Problem:
    """404 in the original's words (contracts, BOS 2.1)."""
    tenant = f" for tenant '{domain.name}'" if domain else ""
    return Problem(404, f"{kind}{tenant} '{name}' does not exist")


def problem(status: int, title: str, detail: str, errors: Any = None) -> HttpResponse:
    """An RFC 7807 document with exactly the original's keys."""
    body = {"detail": detail, "status": status, "title": title, "type": "about:blank"}
    return HttpResponse(json.dumps(body) + "\n", status=status, content_type=PROBLEM)


def answer(document: Any, status: int = 200) -> HttpResponse:
    """A document, its keys sorted as the original's are."""
    return HttpResponse(
        json.dumps(document, sort_keys=True) + "\n", status=status, content_type="application/json"
    )


def nothing() -> HttpResponse:
    """204; the original labels it as a problem, and clients compare."""
    return HttpResponse(status=204, content_type=PROBLEM)


AUTHENTICATION: list[Any] = [NodeAuthentication, *api_settings.DEFAULT_AUTHENTICATION_CLASSES]


class AnyAnswer(BaseContentNegotiation):
    """Answers are JSON whatever the client says it accepts."""

    def select_parser(self, request: Request, parsers: Any) -> Any:
        return parsers[0]

    def select_renderer(self, request: Request, renderers: Any, format_suffix: Any = None) -> Any:
        return renderers[0], renderers[0].media_type


class BosView(APIView):
    """A door of BOS: errors are the original's problem documents."""

    schema = None  # described by the original's own specification
    content_negotiation_class = AnyAnswer
    authentication_classes = AUTHENTICATION
    verbs: ClassVar[Mapping[str, str]] = {}  # what a method needs, where it is not `operate`

    @property
    def verb(self) -> str:
        """For RolePermission."""
        return self.verbs.get(self.request.method or "", Verb.OPERATE)

    def problem(self, status: int, title: str, detail: str, errors: Any = None) -> HttpResponse:
        """Errors that the framework raises, under the original's titles."""
        if status == 405:
            detail = NOT_ALLOWED
        return problem(status, TITLES.get(status) or REASONS.get(status, title), detail)

    def handle_exception(self, exc: Exception) -> Response:
        if isinstance(exc, Problem):
            title = exc.title or TITLES.get(exc.status) or REASONS[exc.status]
            return self.problem_answer(exc, title)
        if isinstance(exc, Refused | LimitError):
            return self.handle_exception(Problem(400, str(exc)))
        if isinstance(exc, OperationalError):
            log.error("The database failed during %s %s: %s", self.request.method, self.request.path, exc)
            return self.handle_exception(Problem(503, "The database does not answer. Try again."))
        return super().handle_exception(exc)

    def problem_answer(self, exc: Problem, title: str) -> Any:
        """How this door writes a problem that a view raised."""
        return problem(exc.status, title, exc.detail)

    @property
    def person(self) -> Any:
        """Who asks; permission was checked, so he is somebody."""
        return self.request.user

    def options(self, request: Any, *args: Any, **kwargs: Any) -> Any:
        """Which methods there are is in `Allow`, and nothing else is answered."""
        return HttpResponse()

    # -- what comes in ----------------------------------------------------------------------------

    def body(self, schema: Draft4Validator | None = None) -> Any:
        """The request's JSON, checked against `schema`. Raises Problem 400, and 415 for other types."""
        try:
            raw = self.request.body
        except RequestDataTooBig:
            raise Problem(413, "The request body is too large") from None
        said = self.request.content_type or ""
        kind = said.partition(";")[0].strip().lower()
        if raw and not JSON_TYPE.fullmatch(kind):
            raise Problem(415, f"Invalid Content-type ({said}), expected JSON data")
        document = read_json(raw)
        if schema is not None:
            check(document, schema)
        return document

    def tenant(self, *, must_exist: bool = False) -> Domain | None:
        """The tenant that the header names, or the user's own; None is the untenanted.

        A tenant that does not exist, or is not the user's, owns nothing; where something is to be created
        in it, that is Problem 400.
        """
        name = self.request.META.get(TENANT_HEADER, "")
        user = self.person
        own: Domain | None = None if user.is_superadmin else user.domain
        if not name:
            return own
        if user.is_superadmin:
            found = Domain.objects.filter(name=name).first() if storable(name) else None
        else:
            found = own if own is not None and own.name == name else None
        if found is None and must_exist:
            raise Problem(400, "The provided tenant does not exist", title="Invalid tenant")
        return found or Domain(pk=0, name=name)  # matches no row

    @property
    def named_tenant(self) -> str:
        """What the header says, as it stands."""
        return self.request.META.get(TENANT_HEADER, "")


def storable(text: str) -> bool:
    """Whether a name from a URL or a header can be looked up in every database."""
    return is_storable(text) and text.isprintable() and len(text) <= 255


def read_json(raw: bytes) -> Any:
    """The document, None where there is no body; Problem 400 for what is no JSON, null among it as with the
    original, or holds what can't be stored."""
    if not raw:
        return None
    try:
        document = json.loads(raw, parse_constant=_refuse_constant)
        check_storable(document)
        if document is None:
            raise ValueError("null")
    except (ValueError, RecursionError, ParseError):
        raise Problem(400, "Request body is not valid JSON") from None
    return document


def _refuse_constant(name: str) -> None:
    raise ValueError(name)


def check(document: Any, schema: Draft4Validator) -> None:
    """Raise Problem 400 with the first thing that is wrong, and where."""
    error: ValidationError | None = next(schema.iter_errors(document), None)
    if error is None:
        return
    place = ".".join(str(part) for part in error.absolute_path)
    said = error.message if len(error.message) < 1000 else f"{error.message[:1000]}…"
    raise Problem(400, f"{said} - '{place}'" if place else said)


def well_named(name: str) -> bool:
    """Whether a session, template or boot set could have this name."""
    return NAME.fullmatch(name) is not None


def seconds(moment: datetime | None) -> str | None:
    """BOS v2's time: UTC without saying so, whole seconds (contracts, BOS 2.1)."""
    return None if moment is None else moment.strftime("%Y-%m-%dT%H:%M:%S")


class NotFoundView(BosView):
    """Paths below the doors that the original does not have."""

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        raise Problem(404, UNKNOWN_URL, title="Not Found")


UNKNOWN_URL = (
    "The requested URL was not found on the server."
    " If you entered the URL manually please check your spelling and try again."
)
