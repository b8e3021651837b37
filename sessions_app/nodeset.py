"""Sets of node names as people write and read them: `x[1000-1003]c0s*b0n0`, both ways.

ClusterShell parses what people type. What we write is folded here: its own fold is quadratic in the
number of patterns (contracts, power 4), and a page must not wait for it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from math import prod

from ClusterShell.NodeSet import RESOLVER_NOGROUP, NodeSet, NodeSetException

MOST_PATTERNS = 200  # beyond these a text says "and N more"
MOST_NAMES = 100_000  # what one typed pattern may expand to

_NUMBER = re.compile(r"(\d+)")
_XNAME = re.compile(r"x\d+(?:c\d+(?:s\d+(?:b\d+(?:n\d+)?)?)?)?")
_BRACKETS = re.compile(r"\[([^\]]*)\]")
_RANGE = re.compile(r"(\d+)(?:-(\d+)(?:/(\d+))?)?")


# -- written -------------------------------------------------------------------------------------------


Axis = int | tuple[int, ...]  # what one number of a pattern may be: itself, or several


def patterns(names: Iterable[str]) -> list[tuple[str, int]]:
    """The fold of `names`: patterns in natural order, each with the number of names that it stands for.

    Greedy: axis after axis, patterns that are equal in all other axes become one. The same names always
    give the same patterns, and ClusterShell reads them back to the same names.
    """
    found = []
    for (texts, widths), members in _alike(set(names)).items():
        patterns: list[tuple[Axis, ...]] = list(members)
        for axis in reversed(range(len(widths))):
            patterns = _merge(patterns, axis)
        for pattern in patterns:
            axes = tuple(axis if isinstance(axis, tuple) else (axis,) for axis in pattern)
            found.append((texts, axes, widths))
    found.sort()
    return [
        (_written(texts, widths, axes), prod(len(axis) for axis in axes)) for texts, axes, widths in found
    ]


def fold(names: Iterable[str], most: int = MOST_PATTERNS) -> str:
    """`x3000c0s[1-4]b0n0,x3001c2s7b0n1`; beyond `most` patterns the rest is counted: `and 12 more`."""
    folded = patterns(names)
    text = ",".join(pattern for pattern, _ in folded[:most])
    rest = sum(count for _, count in folded[most:])
    return f"{text} and {rest} more" if rest else text


@lru_cache(maxsize=65_536)  # pages fold the same names again and again
def _split(name: str) -> tuple[tuple[str, ...], tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    """The texts between its numbers, the numbers, how many digits each has, and the places of those that
    begin with a zero."""
    parts = _NUMBER.split(name)
    digits = parts[1::2]
    padded = tuple(place for place, text in enumerate(digits) if text[0] == "0" and len(text) > 1)
    return tuple(parts[::2]), tuple(map(int, digits)), tuple(map(len, digits)), padded


def _alike(names: set[str]) -> dict[tuple[tuple[str, ...], tuple[int, ...]], list[tuple[int, ...]]]:
    """By texts and by digits of the zero-padded numbers (0: not padded): the numbers of each name."""
    split = [_split(name) for name in names]
    padded = {(texts, place, lengths[place]) for texts, _, lengths, padded in split for place in padded}
    alike: dict[tuple[tuple[str, ...], tuple[int, ...]], list[tuple[int, ...]]] = {}
    plain: dict[int, tuple[int, ...]] = {}
    for texts, numbers, lengths, _ in split:
        if padded:
            widths = tuple(
                length if (texts, place, length) in padded else 0 for place, length in enumerate(lengths)
            )
        else:
            widths = plain.setdefault(len(lengths), (0,) * len(lengths))
        alike.setdefault((texts, widths), []).append(numbers)
    return alike


def _merge(found: list[tuple[Axis, ...]], axis: int) -> list[tuple[Axis, ...]]:
    groups: dict[tuple[Axis, ...], list[Axis]] = {}
    for pattern in found:
        groups.setdefault(pattern[:axis] + pattern[axis + 1 :], []).append(pattern[axis])
    merged = []
    for others, values in groups.items():
        value = values[0]
        if len(values) > 1:
            flat = (one if isinstance(one, tuple) else (one,) for one in values)
            value = tuple(sorted(chain.from_iterable(flat)))
        merged.append((*others[:axis], value, *others[axis:]))
    return merged


def _runs(values: tuple[int, ...]) -> Iterator[tuple[int, int]]:
    first = last = values[0]
    for value in values[1:]:
        if value != last + 1:
            yield first, last
            first = value
        last = value
    yield first, last


def _written(texts: tuple[str, ...], widths: tuple[int, ...], axes: tuple[tuple[int, ...], ...]) -> str:
    parts = [texts[0]]
    for text, width, axis in zip(texts[1:], widths, axes, strict=True):
        ranges = [
            f"{first:0{width}}" + (f"-{last:0{width}}" if last != first else "")
            for first, last in _runs(axis)
        ]
        parts += [ranges[0] if len(axis) == 1 else f"[{','.join(ranges)}]", text]
    return "".join(parts)


# -- typed ---------------------------------------------------------------------------------------------


class NodeSetError(ValueError):
    """A text that can't be read as a set of nodes; says which part and why."""


@dataclass(frozen=True)
class Selection:
    """What a typed set means in an inventory."""

    names: frozenset[str]  # those that the inventory has
    unknown: tuple[str, ...]  # typed, and nothing bears it


def expand(
    text: str, inventory: Collection[str], groups: Callable[[str], set[str] | None] = lambda name: None
) -> Selection:
    """What `text` selects from `inventory`.

    Items are joined by `,` or blanks; `!` takes away, `&` keeps the common ones, `^` the differing ones,
    read from left to right. An item is a name, a range (`x[1-3]c0s[0-7]b0n0`), may hold `*` and `?`, a part
    of a place (`x1000c3`: everything in it), or `@name`, which `groups` is asked for. Raises NodeSetError.
    """
    names = frozenset(inventory)
    below: dict[str, set[str]] = {}
    chosen: set[str] = set()
    unknown: list[str] = []
    for sign, item in _items(text):
        meant = _meant(item, names, below, groups)
        if not meant:
            unknown.append(item)
        if sign == "!":
            chosen -= meant
        elif sign == "&":
            chosen &= meant
        elif sign == "^":
            chosen ^= meant
        else:
            chosen |= meant
    return Selection(frozenset(chosen), tuple(unknown))


def _items(text: str) -> Iterator[tuple[str, str]]:
    sign, item, inside = ",", "", False
    for character in text:
        if not inside and (character in ",!&^" or character.isspace()):
            if item:
                yield sign, item
                sign, item = ",", ""
            if character in "!&^":
                sign = character
            continue
        inside = (inside or character == "[") and character != "]"
        item += character
    if inside:
        raise NodeSetError(f"'{item}' opens a bracket and does not close it.")
    if item:
        yield sign, item


def _meant(
    item: str,
    names: frozenset[str],
    below: dict[str, set[str]],
    groups: Callable[[str], set[str] | None],
) -> set[str]:
    if item.startswith("@"):
        return set(groups(item[1:]) or ()) & names
    if item in {"*", "all"}:
        return set(names)
    typed = _expanded(item)
    wild = [name for name in typed if "*" in name or "?" in name]
    exact = {_canonical(name) for name in typed} - set(wild)
    meant = exact & names
    for name in exact - names:
        if _XNAME.fullmatch(name):
            meant |= _below(names, below).get(name, set())
    if wild:
        alternatives = "|".join(re.escape(name).replace(r"\*", ".*").replace(r"\?", ".") for name in wild)
        matches = re.compile(alternatives).fullmatch
        meant |= {name for name in names if matches(name)}
    return meant


def _expanded(item: str) -> list[str]:
    """The names that brackets stand for; wildcards stay."""
    size = prod(_size(match[1], item) for match in _BRACKETS.finditer(item))
    if size > MOST_NAMES:
        raise NodeSetError(f"'{item}' stands for {size:,} names; at most {MOST_NAMES:,} are read.")
    if "[" not in item and "]" not in item:
        return [item.lower()]
    # ClusterShell would look wildcards up in groups of its own; as letters they pass through.
    hidden = item.lower().replace("*", "_star_").replace("?", "_any_")
    try:
        found = NodeSet(hidden, resolver=RESOLVER_NOGROUP)
    except NodeSetException as error:
        raise NodeSetError(f"'{item}' can't be read: {error}") from None
    return [name.replace("_star_", "*").replace("_any_", "?") for name in found]


def _size(ranges: str, item: str) -> int:
    """How many values one bracket stands for; told before ClusterShell makes them all."""
    size = 0
    for part in ranges.split(","):
        match = _RANGE.fullmatch(part.strip())
        if match is None:
            raise NodeSetError(f"'{item}' can't be read: '{part}' is neither a number nor a range.")
        first, last, step = int(match[1]), int(match[2] or match[1]), int(match[3] or 1)
        if last < first or step < 1:
            raise NodeSetError(f"'{item}' can't be read: the range '{part}' is empty.")
        size += (last - first) // step + 1
    return size


def _canonical(name: str) -> str:
    """An xname's numbers without leading zeros, as the inventory stores them."""
    if _XNAME.fullmatch(name):
        return _NUMBER.sub(lambda match: str(int(match[1])), name)
    return name


def _below(names: frozenset[str], below: dict[str, set[str]]) -> dict[str, set[str]]:
    """By cabinet, chassis, slot and BMC: the nodes in it. Made once, when first needed."""
    if not below:
        for name in names:
            if _XNAME.fullmatch(name):
                ends = [match.end() for match in _NUMBER.finditer(name)]
                for end in ends[:-1]:
                    below.setdefault(name[:end], set()).add(name)
    return below
