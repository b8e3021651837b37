"""Confirmation before an action on nodes: names what it hits, and refuses when that changed meanwhile."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from sessions_app.nodeset import fold

TYPED_ABOVE = 100  # more nodes than these are confirmed by typing their count


@dataclass
class Confirmation:
    """What is asked: shown by GET, checked by POST."""

    title: str
    verb: str
    count: int
    names: Iterable[str]
    back: str
    digest: str
    will: list[str] = field(default_factory=list)
    left_out: dict[str, list[str]] = field(default_factory=dict)
    hidden: dict[str, str] = field(default_factory=dict)
    danger: bool = False
    takes_from: set[str] = field(default_factory=set)  # ids of sessions that lose nodes
    typed_count: int | None = None  # what is typed, where `count` moves by itself while somebody types
    options: list[tuple[str, str]] = field(default_factory=list)  # (name, label) of boxes to tick
    otherwise: list[tuple[str, str]] = field(default_factory=list)  # (URL, words): ways out of `refused`
    refused: str = ""
    changed: bool = False
    typed_wrong: bool = False

    @property
    def typed(self) -> bool:
        """Whether the count must be typed."""
        return self.count > TYPED_ABOVE

    @property
    def number(self) -> int:
        """The number to type."""
        return self.count if self.typed_count is None else self.typed_count

    @property
    def folded(self) -> str:
        """The nodes as ranges."""
        return fold(self.names)

    @property
    def left_out_folded(self) -> list[tuple[str, int, str]]:
        """(reason, count, nodes) of what is not hit."""
        return [(reason, len(names), fold(names, most=12)) for reason, names in self.left_out.items()]

    def answer(self, request: HttpRequest) -> HttpResponse | None:
        """The page to show; None when a POST has confirmed exactly what this is about.

        409 where the set is another one than was shown, 400 where the typed count is wrong.
        """
        status = 200
        if request.method == "POST":
            # Fewer sessions lose nodes than were shown: some ended meanwhile. Another one is news.
            shown = set(request.POST.get("takes_from", "").split(","))
            self.changed = request.POST.get("digest") != self.digest or not self.takes_from <= shown
            typed = request.POST.get("count", "").translate(str.maketrans("", "", " .,_'"))
            self.typed_wrong = self.typed and typed != str(self.number)
            if not (self.refused or self.changed or self.typed_wrong):
                return None
            status = 409 if self.changed or self.refused else 400
        part = bool(getattr(request, "htmx", False)) and request.method != "POST"
        template = "sessions_app/_confirm.html" if part else "sessions_app/confirm.html"
        return render(request, template, {"confirmation": self}, status=status)
