"""Values of HCL literal expressions: `"text"`, `5`, `["a"]`, `{a = 1}` to plain Python.

Variables of a task are HCL expressions (contracts, CTS 5). They are read here and written to files as
JSON, so that no text of a user ever becomes part of a program. Literals only, as Terraform itself takes in
variable files: no references, no functions, no templates.
"""

from __future__ import annotations

import json
import re
from typing import Any

_NUMBER = re.compile(r"-?(\d+(\.\d+)?([eE][+-]?\d+)?)")
_WORD = re.compile(r"[^\W\d]([\w-])*")
_BLANK = re.compile(r"([ \t\r\n]|#[^\n]*|//[^\n]*|/\*.*?\*/)*", re.DOTALL)
_SPACE = re.compile(r"[ \t]*")
_HEREDOC = re.compile(r"<<(-?)([^\W\d][\w-]*)\r?\n")
_ESCAPES = {"n": "\n", "r": "\r", "t": "\t", '"': '"', "\\": "\\"}
_DEEPEST = 50


class LiteralError(ValueError):
    """The text is not one literal expression; the message says where it stops being one."""


def parse_literal(text: str) -> Any:
    """The value of one HCL literal: str, int, float, bool, None, list or dict. Raises LiteralError."""
    reader = _Reader(text)
    reader.blank()
    value = reader.value(0)
    reader.blank()
    if reader.position != len(text):
        raise reader.error("unexpected text after the value")
    return value


class _Reader:
    def __init__(self, text: str) -> None:
        self.text = text
        self.position = 0

    def error(self, why: str) -> LiteralError:
        return LiteralError(f"not an HCL literal: {why} at character {self.position + 1}")

    def blank(self) -> None:
        match = _BLANK.match(self.text, self.position)
        if match:
            self.position = match.end()

    def peek(self) -> str:
        return self.text[self.position : self.position + 1]

    def take(self, token: str) -> bool:
        if self.text.startswith(token, self.position):
            self.position += len(token)
            return True
        return False

    def value(self, depth: int) -> Any:
        if depth > _DEEPEST:
            raise self.error("nested too deeply")
        head = self.peek()
        if head == '"':
            return self.string()
        if head == "[":
            return self.list(depth)
        if head == "{":
            return self.object(depth)
        if head == "(":
            return self.parenthesis(depth)
        if head == "<":
            return self.heredoc()
        number = _NUMBER.match(self.text, self.position)
        if number:
            self.position = number.end()
            whole = number[2] is None and number[3] is None
            return int(number[0]) if whole else float(number[0])
        return self.word()

    def parenthesis(self, depth: int) -> Any:
        self.position += 1
        self.blank()
        value = self.value(depth + 1)
        self.blank()
        if not self.take(")"):
            raise self.error("a closing parenthesis is missing")
        return value

    def word(self) -> Any:
        match = _WORD.match(self.text, self.position)
        if match is None:
            raise self.error("a value is expected")
        if match[0] not in {"true", "false", "null"}:
            raise self.error(f"{match[0]!r} must be quoted; variables and functions can't be used here")
        self.position = match.end()
        return {"true": True, "false": False, "null": None}[match[0]]

    def string(self) -> str:
        self.position += 1
        parts: list[str] = []
        while True:
            char = self.peek()
            if not char or char == "\n":
                raise self.error("a closing quote is missing")
            if char == '"':
                self.position += 1
                return "".join(parts)
            parts.append(self.escape() if char == "\\" else self.character())

    def character(self) -> str:
        """One character of a template; `$${` is a literal `${`, a template itself is refused."""
        for sign in "$%":
            if self.take(f"{sign * 2}{{"):
                return f"{sign}{{"
            if self.text.startswith(f"{sign}{{", self.position):
                raise self.error("templates can't be used here")
        self.position += 1
        return self.text[self.position - 1]

    def escape(self) -> str:
        self.position += 1
        kind = self.peek()
        self.position += 1
        if kind in _ESCAPES and kind:
            return _ESCAPES[kind]
        length = {"u": 4, "U": 8}.get(kind, 0)
        digits = self.text[self.position : self.position + length]
        if length and re.fullmatch(rf"[0-9a-fA-F]{{{length}}}", digits):
            self.position += length
            code = int(digits, 16)
            if code <= 0x10FFFF and not 0xD800 <= code <= 0xDFFF:
                return chr(code)
        raise self.error("an unknown escape")

    def heredoc(self) -> str:
        match = _HEREDOC.match(self.text, self.position)
        if match is None:
            raise self.error("a value is expected")
        self.position = match.end()
        lines: list[str] = []
        while self.position < len(self.text):
            end = self.text.find("\n", self.position)
            end = len(self.text) if end < 0 else end
            line = self.text[self.position : end]
            if line.strip() == match[2]:
                self.position = end
                return _heredoc_text(lines, indented=bool(match[1]))
            if re.search(r"(?<![$%])[$%]\{", line):
                raise self.error("templates can't be used here")
            lines.append(line.replace("$${", "${").replace("%%{", "%{"))
            self.position = end + 1
        raise self.error(f"the end {match[2]} of the text is missing")

    def list(self, depth: int) -> list[Any]:
        self.position += 1
        items: list[Any] = []
        while True:
            self.blank()
            if self.take("]"):
                return items
            items.append(self.value(depth + 1))
            self.blank()
            if not self.take(",") and self.peek() != "]":
                raise self.error("a comma or ] is expected")

    def object(self, depth: int) -> dict[str, Any]:
        self.position += 1
        found: dict[str, Any] = {}
        while True:
            self.blank()
            if self.take("}"):
                return found
            key = self.key(depth)
            self.blank()
            if not (self.take("=") or self.take(":")):
                raise self.error("= is expected")
            self.blank()
            found[key] = self.value(depth + 1)
            self.end_of_item()

    def key(self, depth: int) -> str:
        match = _WORD.match(self.text, self.position)
        if match:
            self.position = match.end()
            return match[0]
        value = self.value(depth + 1)
        if value is None or isinstance(value, list | dict):
            raise self.error("a key must be a name, a text or a number")
        return value if isinstance(value, str) else json.dumps(value)

    def end_of_item(self) -> None:
        """Items of an object end with a comma or with their line."""
        before = self.position
        self.blank()
        if self.take(",") or self.peek() == "}":
            return
        if "\n" not in self.text[before : self.position]:
            raise self.error("a comma, a new line or } is expected")


def _heredoc_text(lines: list[str], *, indented: bool) -> str:
    if indented:
        depths = [len(_SPACE.match(line)[0]) for line in lines if line.strip()]  # type: ignore[index]
        lines = [line[min(depths, default=0) :] for line in lines]
    return "".join(f"{line}\n" for line in lines)
