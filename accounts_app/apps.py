"""Who you are, and what you may do."""

from django.apps import AppConfig


class AccountsConfig(AppConfig):
    """Floor two: stands on events_app."""

    name = "accounts_app"
    verbose_name = "Accounts"

    def ready(self) -> None:
        """Register the checks of the settings that keep secrets."""
        from accounts_app import checks  # noqa: F401  (registers on import)
