"""What a good answer to a request of the matrix is; the same in process and over real HTTP."""

from __future__ import annotations

from typing import Any

from tests.accounts.matrix import LEVEL, OPEN, SUPER, Path, Way

OWN, FOREIGN = "tenant-a", "tenant-b"


def filled(text: str, names: dict[str, str]) -> str:
    """A path or body with the names of somebody's things."""
    for name, value in names.items():
        text = text.replace(f"<{name}>", value)
    return text


def tenanted(path: str) -> bool:
    """Whether a superadmin says by a header whose things he means."""
    return path.startswith(("/v2", "/apis/bos/v2", "/v1/tasks", "/v1/status/tasks"))


def judge(path: Path, way: Way, who: str, whose: str, answer: Any) -> str:
    """What is wrong with an answer; nothing where it is as declared."""
    status, level = answer.status_code, LEVEL[who]
    to_login = status == 302 and answer["Location"].startswith("/login")
    if level < way.level:
        if who == "nobody":
            wanted = to_login if path.page else status == 401
            return "" if wanted else f"{status} instead of {'the login' if path.page else 401}"
        wanted = {403} if who == "nora" else {way.below}
        return "" if status in wanted else f"{status} instead of {wanted}"
    # BOS v1 knows no tenants: a superadmin, who belongs to none, finds the untenanted there.
    v1 = path.path.startswith(("/v1/session", "/apis/bos/v1/session"))
    outside = (whose == FOREIGN and level < SUPER) or (who == "sue" and v1)
    if outside and "<" in path.path:
        return (
            ""
            if status == way.foreign
            or (way.level == OPEN and status in way.also)
            or (who == "sue" and status < 300)
            else f"{status} instead of {way.foreign}"
        )
    if outside and v1 and who == "sue" and status == 404:
        return ""
    good = (200 <= status < 400 and (not to_login or way.level == 0)) or status in way.also
    return "" if good else f"{status}: {answer.content[:200]!r}"


def refused(answer: Any) -> bool:
    """Not let in, or no such method."""
    to_login = answer.status_code == 302 and answer["Location"].startswith("/login")
    return to_login or answer.status_code in (401, 403, 404, 405)


def as_get(path: Path, who: str, answer: Any) -> bool:
    """A page that is only looked at may take any method for GET; it is open to the same people."""
    look = path.ways.get("GET")
    changes = set(path.ways) - {"GET"}
    return (
        path.page
        and look is not None
        and not changes
        and LEVEL[who] >= look.level
        and answer.status_code < 500
    )


def complaint(path: Path, method: str, who: str, whose: str, answer: Any) -> str:
    """What is wrong with an answer, by the table; nothing where it is as declared."""
    way = path.ways.get(method)
    if way is not None:
        return judge(path, way, who, whose, answer)
    if refused(answer) or as_get(path, who, answer):
        return ""
    return f"{answer.status_code}, but it is not declared"
