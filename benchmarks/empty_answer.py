"""The product's settings with one more door, `/bench/empty`; a benchmark's DJANGO_SETTINGS_MODULE."""

from config.settings import *  # noqa: F403

ROOT_URLCONF = "benchmarks.empty_urls"
