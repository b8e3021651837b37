"""Template tags of all pages: times, badges, bars, numbers."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

from django import template
from django.templatetags.static import static
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.timezone import now

from accounts_app.services import plain_query

register = template.Library()

BAR = 1000  # units of a bar's whole width


@register.simple_tag
def when(at: datetime | None, shape: str = "full", otherwise: str = "–") -> SafeString:
    """A `<time>` in UTC, which times.js rewrites. Shapes: full, clock (with the day where it was another
    one), ago."""
    if at is None:
        return format_html('<span class="muted none">{}</span>', otherwise)
    clock = f"{at:%H:%M:%S}" if at.date() == now().date() else f"{at:%m-%d %H:%M}"
    text = {"clock": clock, "ago": ago(at)}.get(shape, f"{at:%Y-%m-%d %H:%M:%S}")
    return format_html(
        '<time datetime="{}" data-shape="{}" title="{} UTC">{}</time>',
        at.strftime("%Y-%m-%dT%H:%M:%SZ"),
        shape,
        f"{at:%Y-%m-%d %H:%M:%S}",
        text,
    )


@register.filter
def ago(at: datetime) -> str:
    """`12 s ago`, `3 min ago`, `in 5 min`."""
    seconds = int((now() - at).total_seconds())
    if abs(seconds) < 2:
        return "just now"
    sizes = {"d": 86400, "h": 3600, "min": 60, "s": 1}
    unit = next(unit for unit, size in sizes.items() if abs(seconds) >= size)
    count = abs(seconds) // sizes[unit]
    return f"in {count} {unit}" if seconds < 0 else f"{count} {unit} ago"


@register.filter
def duration(value: timedelta | float | None) -> str:
    """`0:48`, `12:05`, `1:02:03`; a dash for nothing."""
    if value is None:
        return "–"
    seconds = int(value.total_seconds() if isinstance(value, timedelta) else value)
    minutes, seconds = divmod(max(0, seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


@register.filter
def grouped(number: int | None) -> str:
    """`9,408`."""
    return "–" if number is None else f"{number:,}"


@register.filter
def counted(number: int, words: str) -> str:
    """`{{ 3|counted:"node,nodes" }}` → `3 nodes`."""
    one, many = words.split(",")
    return f"{number:,} {one if number == 1 else many}"


@register.filter
def worded(name: str) -> str:
    """A name of the code as words: `import_nodes` → `import nodes`."""
    return name.replace("_", " ")


@register.filter
def spaced(names: str) -> str:
    """Folded names with room to break lines between them, not inside: `x1c[0,2], x3`."""
    return re.sub(r",(?![^\[]*\])(?! )", ", ", names)


@register.filter
def lookup(mapping: Mapping[Any, Any], key: Any) -> Any:
    """The mapping's value of a key that is a variable."""
    return mapping.get(key, "")


@register.simple_tag
def look(looks: tuple[str, str], word: str, boxed: bool = False) -> SafeString:
    """A badge: glyph, word and tone together, so that colour is never alone. `looks` = (glyph, tone)."""
    glyph, tone = looks
    return format_html(
        '<span class="badge{} tone-{}"><span class="glyph" aria-hidden="true">{}</span>{}</span>',
        " boxed" if boxed else "",
        tone,
        glyph,
        word,
    )


@register.inclusion_tag("_saved_filters.html", takes_context=True)
def saved_filters(context: Mapping[str, Any], page: str) -> dict[str, Any]:
    """One's own filters of a list as chips; the present one can be forgotten, a new one kept."""
    request = context["request"]
    query = plain_query(request.GET.urlencode())
    saved = list(request.user.saved_filters.filter(page=page))
    here = next((one for one in saved if one.query == query), None)
    return {"page": page, "query": query, "saved": saved, "here": here, "csrf_token": context["csrf_token"]}


@register.simple_tag
def copy(text: Any, what: str) -> SafeString:
    """A small button that puts `text` on the clipboard; nothing where there is nothing to copy, and not seen
    where no script runs."""
    if not text:
        return SafeString("")
    return format_html(
        '<button type="button" class="plain copy" data-copy="{}" title="Copy {}">{}'
        '<span class="hidden-text">Copy {}</span></button>',
        text,
        what,
        icon("copy"),
        what,
    )


@register.simple_tag(takes_context=True)
def curl(context: Mapping[str, Any], path: str) -> str:
    """The command that asks the API for what a page shows."""
    where = context["request"].build_absolute_uri(path)
    return f'curl -H "Authorization: Bearer $TOKEN" {where}'


@register.simple_tag
def icon(name: str) -> SafeString:
    """One of static/icons.svg, for decoration beside a word."""
    return format_html(
        '<svg class="icon" aria-hidden="true" focusable="false"><use href="{}#{}"/></svg>',
        static("icons.svg"),
        name,
    )


@register.simple_tag
def bar(parts: Iterable[tuple[int, str]], label: str, thin: bool = False) -> SafeString:
    """A bar of (count, tone) parts. Widths are attributes of SVG: the page has no inline style."""
    parts = [(count, tone) for count, tone in parts if count > 0]
    total = sum(count for count, _ in parts)
    place = 0.0
    rects = []
    for count, tone in parts:
        # A single failed node of 10,000 must be seen.
        width = max(BAR * count / total, 4)
        rects.append((f"{place:.1f}", f"{width:.1f}", tone))
        place += width
    inner = format_html_join(
        "", '<rect class="tone-{2}" x="{0}" y="0" width="{1}" height="10"></rect>', rects
    )
    return format_html(
        '<svg class="bar{}" viewBox="0 0 {} 10" preserveAspectRatio="none" role="img" aria-label="{}">'
        "{}</svg>",
        " thin" if thin else "",
        max(BAR, round(place)),
        label,
        inner,
    )


@register.simple_tag
def spark(hours: list[tuple[int, int]], label: str) -> SafeString:
    """A sparkline of (good, bad) counts by hour, oldest first, as SVG."""
    most = max((good + bad for good, bad in hours), default=0)
    rects = []
    for place, (good, bad) in enumerate(hours):
        tall = 30 * (good + bad) / most if most else 0
        red = tall * bad / (good + bad) if good + bad else 0
        rects.append(("green", place * 10, f"{32 - tall:.1f}", f"{tall - red:.1f}"))
        rects.append(("red", place * 10, f"{32 - red:.1f}", f"{red:.1f}"))
        rects.append(("slate", place * 10, "32", "1"))
    inner = format_html_join("", '<rect class="tone-{}" x="{}" y="{}" width="8" height="{}"></rect>', rects)
    said = f"{label}: {sum(good for good, _ in hours)} good, {sum(bad for _, bad in hours)} failed"
    return format_html(
        '<svg class="spark" viewBox="0 0 {} 34" preserveAspectRatio="none" role="img" aria-label="{}">'
        "{}</svg>",
        len(hours) * 10,
        said,
        inner,
    )
