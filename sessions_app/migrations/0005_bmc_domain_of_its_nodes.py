"""A BMC belongs to the domain of its nodes where they have one and the same; else to the superadmins."""

from typing import Any

from django.db import migrations
from django.db.models import Count, Max, Min

AT_ONCE = 500


def fill(apps: Any, schema_editor: Any) -> None:
    """All at once by domain: a fleet has thousands of BMCs."""
    Bmc = apps.get_model("sessions_app", "Bmc")
    rows = Bmc.objects.annotate(
        least=Min("nodes__domain"), most=Max("nodes__domain"), all=Count("nodes"), owned=Count("nodes__domain")
    ).filter(domain=None, owned__gt=0)
    by_domain: dict[int, list[int]] = {}
    for pk, least, most, all_nodes, owned in rows.values_list("pk", "least", "most", "all", "owned"):
        if least == most and all_nodes == owned:
            by_domain.setdefault(least, []).append(pk)
    for domain, found in by_domain.items():
        for start in range(0, len(found), AT_ONCE):
            Bmc.objects.filter(pk__in=found[start : start + AT_ONCE]).update(domain_id=domain)


class Migration(migrations.Migration):
    dependencies = [("sessions_app", "0004_bmc_domain")]

    operations = [migrations.RunPython(fill, migrations.RunPython.noop)]
