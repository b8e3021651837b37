"""Doors of this app: `pages` for people, `api` for programs."""

from django.urls import URLPattern, URLResolver

from tasks_app import cts

pages: list[URLPattern | URLResolver] = []
api: list[URLPattern | URLResolver] = [*cts.urls]
