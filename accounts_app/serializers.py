"""Keys and audit rows as JSON."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from accounts_app.models import ApiKey, AuditEntry, User
from accounts_app.states import Area, Verb
from accounts_app.strict import Strict


class KeySerializer(serializers.ModelSerializer):
    """A key without its secret."""

    user = serializers.CharField(source="user.username")
    areas = serializers.ListField(child=serializers.ChoiceField(choices=Area.choices))

    class Meta:
        model = ApiKey
        fields = [
            "access_key", "name", "user", "scope", "areas", "created_at", "expires_at", "revoked_at",
            "last_used_at",
        ]  # fmt: skip
        read_only_fields = fields


class IssueSerializer(Strict):
    """What a new key shall be."""

    name = serializers.CharField(required=False, allow_blank=True, default="", max_length=127)
    scope = serializers.ChoiceField(choices=Verb.choices, required=False, default=Verb.ADMIN)
    areas = serializers.MultipleChoiceField(choices=Area.choices, required=False, default=set)
    expires_at = serializers.DateTimeField(required=False, allow_null=True, default=None)
    user = serializers.SlugRelatedField(
        slug_field="username", queryset=User.objects.none(), required=False, default=None
    )

    def get_fields(self) -> dict[str, Any]:
        """For others only those may ask who administer them."""
        fields: dict[str, Any] = super().get_fields()
        asking = getattr(self.context.get("request"), "user", None)
        fields["user"].queryset = User.objects.administered_by(asking)
        return fields


class IssuedSerializer(KeySerializer):
    """A key just issued: the only time that its secret is shown."""

    secret_key = serializers.CharField()
    token = serializers.CharField()

    class Meta(KeySerializer.Meta):
        fields = [*KeySerializer.Meta.fields, "secret_key", "token"]
        read_only_fields = fields


class AuditSerializer(serializers.ModelSerializer):
    """One request that would have changed something."""

    class Meta:
        model = AuditEntry
        fields = AuditEntry.SHOWN
        read_only_fields = fields


class MeSerializer(serializers.Serializer):
    """Who asks, and what he may do."""

    username = serializers.CharField()
    role = serializers.CharField()
    domain = serializers.CharField(allow_null=True)
    projects = serializers.ListField(child=serializers.CharField())
    verbs = serializers.ListField(child=serializers.CharField())
    areas = serializers.ListField(child=serializers.CharField(), help_text="Empty: all")
    access_key = serializers.CharField(allow_null=True)
