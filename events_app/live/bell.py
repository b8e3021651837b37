"""Listening to the bell: Redis says that there is something to read."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

import redis.asyncio
from redis.exceptions import RedisError

from events_app.services import BELL_CHANNEL

log = logging.getLogger(__name__)

TRY_AGAIN = 1.0


async def listen(url: str, ring: Callable[[], None]) -> None:
    """Call `ring` at each bell, for ever. While Redis is away nobody rings, and the hub looks by itself."""
    heard = True
    while True:
        client = redis.asyncio.Redis.from_url(url, socket_connect_timeout=2.0, health_check_interval=10)
        try:
            async with client.pubsub(ignore_subscribe_messages=True) as pubsub:
                await pubsub.subscribe(BELL_CHANNEL)
                if not heard:
                    log.info("The bell is heard again.")
                heard = True
                ring()  # for what happened while nobody listened
                while True:
                    # The time-out lets the health check find a connection that died without a word.
                    if await pubsub.get_message(timeout=10.0) is not None:
                        ring()
        except (TimeoutError, RedisError, OSError) as error:
            if heard:
                log.warning("The bell is not heard, looking each second instead: %s", error)
            heard = False
        finally:
            await client.aclose()
        await asyncio.sleep(TRY_AGAIN)
