"""What the pages of workflows take."""

from django import forms


class ScaleForm(forms.Form):
    """How many instances of one service."""

    service = forms.CharField(max_length=40)
    replicas = forms.IntegerField(min_value=0, max_value=1000)


class RollbackForm(forms.Form):
    """To which revision; empty for the one before."""

    revision = forms.IntegerField(min_value=1, required=False)
