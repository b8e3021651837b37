"""The one signal by which news travels up and sideways."""

from django.dispatch import Signal

# Sent after commit, once per event, with `event` (a LifecycleEvent). Receivers only queue steps.
event_recorded = Signal()
