"""Serializers that refuse what they do not know."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers


class Strict(serializers.Serializer):
    """Refuses unknown fields: a mistyped one must not be passed over in silence."""

    def to_internal_value(self, data: Any) -> Any:
        if isinstance(data, dict):
            refused = self.refused(data)
            if refused:
                raise serializers.ValidationError(refused)
        return super().to_internal_value(data)

    def refused(self, data: dict[str, Any]) -> dict[str, list[str]]:
        """What is wrong with the names of the fields that came."""
        return {str(name): ["There is no such field."] for name in data if name not in self.fields}


class StrictModel(Strict, serializers.ModelSerializer):
    """Made from a model; refuses read-only fields, too: state is moved by actions, never by a PATCH."""

    def refused(self, data: dict[str, Any]) -> dict[str, list[str]]:
        fixed = [name for name in data if name in self.fields and self.fields[name].read_only]
        return super().refused(data) | {name: ["This field can't be written."] for name in fixed}
