

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("workflows_app", "0001_initial"),
    ]

    operations = [
        migrations.AddField(
            model_name="deployment",
            name="reached",
            field=models.IntegerField(default=0),
        ),
    ]
