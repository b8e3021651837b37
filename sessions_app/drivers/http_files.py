"""Whether files can be fetched over HTTP: asked of many at once with HEAD, nothing is fetched."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from dataclasses import dataclass

import aiohttp

AT_ONCE = 16
GONE = frozenset({404, 410})


@dataclass(frozen=True, slots=True)
class Found:
    """Of one address: it is `there`, or `why` not, and whether that is `certain`."""

    there: bool
    certain: bool = True
    why: str = ""


def look_for(urls: Collection[str], *, seconds: float) -> dict[str, Found]:
    """What is known of each address after at most `seconds`."""
    return asyncio.run(_look_for(urls, seconds)) if urls else {}


async def _look_for(urls: Collection[str], seconds: float) -> dict[str, Found]:
    found = {url: Found(False, False, f"no answer within {seconds:g} seconds") for url in urls}
    places = asyncio.Semaphore(AT_ONCE)

    async def ask(session: aiohttp.ClientSession, url: str) -> None:
        async with places:
            try:
                async with session.head(url, allow_redirects=True) as answer:
                    found[url] = _judge(answer.status)
            except (aiohttp.ClientError, OSError, ValueError) as error:
                # Not its own words: they may hold a password of the address.
                found[url] = Found(False, False, f"it can't be asked ({type(error).__name__})")

    timeout = aiohttp.ClientTimeout(total=None)
    async with aiohttp.ClientSession(timeout=timeout, headers={"User-Agent": "Muster"}) as session:
        tasks = [asyncio.create_task(ask(session, url)) for url in found]
        _, late = await asyncio.wait(tasks, timeout=seconds)
        for task in late:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return found


def _judge(status: int) -> Found:
    if status in GONE:
        return Found(False, True, f"the server answered {status}")
    return Found(True) if status < 400 else Found(False, False, f"the server answered {status}")
