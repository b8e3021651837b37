"""Doors of this app; the streams themselves are served in front of Django (config/asgi.py)."""

from django.urls import URLPattern, URLResolver, path

from events_app.stream import ChannelsView

pages: list[URLPattern | URLResolver] = []
api: list[URLPattern | URLResolver] = [
    path("events/stream", ChannelsView.as_view({"get": "list"}), name="event-channels"),
]
