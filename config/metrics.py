"""Figures for Prometheus, read from the counters that the service keeps anyway."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django.db.models import Count, Min, QuerySet
from django.http import HttpResponse
from django.utils import timezone
from drf_spectacular.utils import OpenApiTypes, extend_schema
from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector
from rest_framework.request import Request
from rest_framework.views import APIView

from accounts_app.models import AuditPending
from accounts_app.permissions import SuperadminReads
from events_app.models import BackgroundTask, EventCounter, Heartbeat
from sessions_app.models import Bmc, BootSession, Node, NodePhase
from tasks_app.models import Run
from workflows_app.models import Workflow


class Figures(Collector):
    """All figures, read when asked; the number of statements does not grow with the fleet."""

    def collect(self) -> Iterator[Metric]:
        """One family a subject."""
        yield counted("muster_nodes", "Nodes by power state", Node.objects.all(), "power_state")
        sessions = BootSession.objects.by_template()
        yield counted("muster_sessions", "Boot sessions by status", sessions, "status")
        yield counted("muster_bmcs", "BMCs by whether they answer", Bmc.objects.all(), "reach")
        yield counted(
            "muster_background_tasks", "Background tasks by status", BackgroundTask.objects.all(), "status"
        )
        yield counted("muster_runs", "Runs of infrastructure tasks by status", Run.objects.all(), "status")
        yield GaugeMetricFamily("muster_workflows", "Workflows", value=Workflow.objects.count())
        last = EventCounter.objects.values_list("last", flat=True).first() or 0
        yield CounterMetricFamily("muster_events", "Events recorded so far", value=last)
        now = timezone.now()
        oldest = NodePhase.objects.due(now).aggregate(due=Min("due_at"))["due"]
        lag = (now - oldest).total_seconds() if oldest else 0.0
        yield GaugeMetricFamily("muster_due_lag_seconds", "Age of the oldest due row of work", value=lag)
        waiting = AuditPending.objects.count()
        yield GaugeMetricFamily("muster_audit_waiting", "Audit rows not delivered yet", value=waiting)
        seen = GaugeMetricFamily(
            "muster_seen_seconds", "Seconds since a part was seen at work", labels=["part"]
        )
        for heartbeat in Heartbeat.objects.all():
            seen.add_metric([heartbeat.name], (now - heartbeat.seen_at).total_seconds())
        yield seen


def counted(name: str, text: str, rows: QuerySet[Any], field: str) -> GaugeMetricFamily:
    """How many rows have each value of a field."""
    family = GaugeMetricFamily(name, text, labels=[field])
    for row in rows.order_by().values(field).annotate(count=Count("pk")):
        family.add_metric([row[field]], row["count"])
    return family


class MetricsView(APIView):
    """`GET /metrics` in Prometheus's text format, for superadmins: it counts what all tenants have.

    Monitoring gets a key of one of them with scope `read` and area `metrics`, which opens nothing else.
    """

    permission_classes = [SuperadminReads]

    @extend_schema(responses={(200, "text/plain"): OpenApiTypes.STR})
    def get(self, request: Request) -> HttpResponse:
        """The figures now."""
        registry = CollectorRegistry()
        registry.register(Figures())
        return HttpResponse(generate_latest(registry), content_type=CONTENT_TYPE_LATEST)
