"""What BOS v2's paths, queries and headers may hold, told in the original's words (its specification)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from jsonschema import Draft4Validator
from rest_framework.request import Request

from sessions_app.bos import BosView, Problem, check
from sessions_app.bos_v2_schemas import AGED, NAMED, PHASES, SESSION_STATES, compiled, text, whole

NAME = compiled(NAMED)
COMPONENT_ID = compiled(text(127, 1))
TENANT = compiled(text(127))
PAGE_SIZE = compiled(whole(0, 1048576))
SESSIONS_QUERY = {"min_age": compiled(AGED), "max_age": compiled(AGED), "status": compiled(SESSION_STATES)}
COMPONENTS_QUERY = {
    "ids": compiled({"type": "string", "minLength": 1}),  # of any length: a page of nodes names them all
    "session": NAME,
    "staged_session": NAME,
    "phase": compiled(PHASES),
    "status": compiled(text(512)),
    "start_after_id": COMPONENT_ID,
}


class V2View(BosView):
    """A door of v2. What stands in the path and the header is checked before anything is looked for."""

    in_path: ClassVar[Mapping[str, Draft4Validator]] = {}

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        for name, schema in self.in_path.items():
            check(kwargs[name], schema)
        check(self.named_tenant, TENANT)

    def check_query(self, schemas: Mapping[str, Draft4Validator]) -> None:
        """Raise Problem 400 for a parameter that is given and can't be meant."""
        for name, schema in schemas.items():
            if name in self.request.GET:
                check(self.request.GET[name], schema)


def query_flag(query: Any, name: str) -> bool | None:
    """A boolean of the query; None where it is not given. Raises Problem 400."""
    text = query.get(name)
    if text is None:
        return None
    if text.lower() not in {"true", "false"}:
        raise Problem(400, f"Wrong type, expected 'boolean' for query parameter '{name}'")
    return bool(text.lower() == "true")


def query_number(query: Any, name: str, schema: Draft4Validator) -> int:
    """A whole number of the query; 0 where it is not given. Raises Problem 400."""
    text = query.get(name, "0")
    digits = text.removeprefix("-")
    if not (digits.isascii() and digits.isdecimal() and len(digits) < 20):
        raise Problem(400, f"Wrong type, expected 'integer' for query parameter '{name}'")
    check(int(text), schema)
    return int(text)
