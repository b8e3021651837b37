"""Bodies of requests, decoded as the original decodes them, with its words for what is wrong."""

from __future__ import annotations

import json
from typing import Any

from rest_framework.exceptions import ParseError

from accounts_app.parsers import check_storable

_KINDS = {list: "array", str: "string", bool: "bool", int: "number", float: "number"}
_TRUE, _FALSE = {"1", "t", "T", "TRUE", "true", "True"}, {"0", "f", "F", "FALSE", "false", "False"}


class BodyError(ValueError):
    """The body can't be used; the message is the answer's."""


def decode_request(body: bytes, content_type: str) -> Any:
    """JSON of a request that the schema checks. Raises BodyError."""
    prefix = "request body has an error: "
    if not body:
        raise BodyError(prefix + "value is required but missing")
    if content_type.partition(";")[0].strip().lower() != "application/json":
        raise BodyError(f'{prefix}header Content-Type has unexpected value "{content_type}"')
    try:
        return _parse(body)
    except BodyError as error:
        raise BodyError(f"{prefix}failed to decode request body: {error}") from None


def decode_enabled(body: bytes) -> bool:
    """`enabled` of a PATCH, taken weakly ("true" and 1 are true). Raises BodyError."""
    raw = _parse(body)
    if raw is None:
        raw = {}
    if not isinstance(raw, dict):
        kind = _KINDS[type(raw)]
        raise BodyError(f"json: cannot unmarshal {kind} into Go value of type map[string]interface {{}}")
    found, unused = None, []
    for key, value in raw.items():
        if key.lower() == "enabled":
            found = _weak_bool(value)
        else:
            unused.append(key)
    if unused:
        keys = ", ".join(sorted(unused))
        raise BodyError(f"request body's JSON contains unsupported keys: {keys}")
    if found is None:
        raise BodyError(
            "/v1/tasks/:task_name currently only supports the 'enabled' field. Missing 'enabled' from the "
            "request body."
        )
    return found


def _weak_bool(value: Any) -> bool | None:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int | float):
        return value != 0
    if isinstance(value, str):
        if value in _TRUE:
            return True
        if value in _FALSE or value == "":
            return False
        why = f"strconv.ParseBool: parsing {json.dumps(value)}: invalid syntax"
        raise BodyError(f"1 error(s) decoding:\n\n* cannot parse 'enabled' as bool: {why}")
    kind = "map[string]interface {}" if isinstance(value, dict) else "[]interface {}"
    raise BodyError(
        f"1 error(s) decoding:\n\n* 'enabled' expected type 'bool', got unconvertible type '{kind}'"
    )


def _refuse(constant: str) -> Any:
    raise BodyError(f"invalid character '{constant[0]}' looking for beginning of value")


def _parse(body: bytes) -> Any:
    try:
        text = body.decode()
    except UnicodeDecodeError:
        raise BodyError("invalid character in JSON: not UTF-8") from None
    if not text.strip():
        raise BodyError("unexpected end of JSON input")
    try:
        parsed = json.loads(text, parse_constant=_refuse)
    except json.JSONDecodeError as error:
        if error.pos >= len(text.rstrip()):
            raise BodyError("unexpected end of JSON input") from None
        char = text[error.pos]
        raise BodyError(f"invalid character {char!r} at position {error.pos + 1}") from None
    except (RecursionError, ValueError):
        raise BodyError("the JSON is nested too deeply or has a number too long") from None
    try:
        check_storable(parsed)
    except ParseError as error:
        raise BodyError(str(error.detail)) from None
    return parsed
