"""Serializers that refuse what they do not know."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers


class Strict(serializers.Serializer):
    """Refuses unknown and read-only fields: a mistyped one must not be passed over in silence."""

    def to_internal_value(self, data: Any) -> Any:
        if isinstance(data, dict):
            unknown = sorted(str(name) for name in data if name not in self.fields)
            fixed = sorted(name for name in data if name in self.fields and self.fields[name].read_only)
            if unknown or fixed:
                errors = {name: ["There is no such field."] for name in unknown}
                raise serializers.ValidationError(
                    errors | {name: ["This field can't be written."] for name in fixed}
                )
        return super().to_internal_value(data)


class StrictModel(Strict, serializers.ModelSerializer):
    """The same for serializers that are made from a model."""
