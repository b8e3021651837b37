"""HTTP by Django; streams are served in front of it (events_app)."""

import os

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

django.setup(set_prefix=False)

# Below here apps are loaded, so their modules can be imported.
from django.conf import settings  # noqa: E402

from config import loglevel  # noqa: E402
from config.streams import identify, recheck  # noqa: E402
from config.threads import Handler  # noqa: E402
from events_app import stream  # noqa: E402
from events_app.live.doors import SessionDoor, TaskDoor  # noqa: E402
from events_app.live.front import Front  # noqa: E402

application = Front(
    Handler(),
    doors={
        "/events/session": SessionDoor,
        "/events/background-task": TaskDoor,
        "/events/stream": stream.ChannelDoor,
    },
    identify=identify,
    recheck=recheck,
    redis_url=settings.REDIS_URL,
)
application.on_start.append(stream.attach)
loglevel.follow()
