"""Questions before actions: what was asked has a fingerprint, and only exactly that can be confirmed."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render


def digest_of(*parts: Any) -> str:
    """A short fingerprint of what was shown; names count in any order."""
    hashed = hashlib.sha256()
    for part in parts:
        texts = sorted(part) if isinstance(part, (list, set, tuple)) else [str(part)]
        hashed.update("\0".join(texts).encode() + b"\1")
    return hashed.hexdigest()[:32]


@dataclass
class Question:
    """A question in words: shown by GET, checked by POST."""

    title: str
    lines: list[str]
    verb: str
    back: str
    danger: bool = False
    hidden: dict[str, str] = field(default_factory=dict)
    about: tuple[Any, ...] = ()  # what else must be as it was; `moving` where the lines move by themselves
    moving: bool = False
    changed: bool = False

    @property
    def digest(self) -> str:
        """Of what the person reads, and of `about`."""
        return digest_of(self.title, *([] if self.moving else self.lines), *self.about)

    def answer(self, request: HttpRequest) -> HttpResponse | None:
        """The page to show; None when a POST has confirmed exactly this. 409 where it is another question by
        now: then nothing is done."""
        if request.method == "POST":
            self.changed = request.POST.get("digest") != self.digest
            if not self.changed:
                return None
        part = bool(getattr(request, "htmx", False)) and request.method != "POST"
        status = 409 if self.changed else 200
        return render(request, "_ask.html" if part else "ask.html", {"question": self}, status=status)
