"""What the pages of keys and of saved filters take."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django import forms
from django.utils import timezone

from accounts_app.services import plain_query
from accounts_app.states import VERBS, Area, FilteredPage, Verb

DAYS = [("30", "30 days"), ("90", "90 days"), ("365", "a year"), ("", "never")]
SCOPES = {
    Verb.READ: "read: sees, changes nothing",
    Verb.OPERATE: "operate: starts, retries, cancels",
    Verb.ADMIN: "administer: whatever you may",
}


class KeyForm(forms.Form):
    """A new key: what it is for, what it may do, for how long."""

    name = forms.CharField(max_length=127, label="What it is for")
    scope = forms.ChoiceField(label="What it may do", initial=Verb.OPERATE)
    areas = forms.MultipleChoiceField(
        choices=Area.choices,
        required=False,
        label="Only for",
        widget=forms.CheckboxSelectMultiple,
        help_text="None ticked: for everything.",
    )
    days = forms.ChoiceField(choices=DAYS, required=False, label="It lapses after", initial="90")

    def __init__(self, *args: Any, user: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # A key never does more than its user may.
        offered = [(verb, words) for verb, words in SCOPES.items() if verb in VERBS[user.role]]
        field = self.fields["scope"]
        assert isinstance(field, forms.ChoiceField)  # noqa: S101  (declared above)
        field.choices = offered
        if Verb.OPERATE not in VERBS[user.role]:
            field.initial = Verb.READ

    @property
    def expires_at(self) -> Any:
        """When it lapses; None for never."""
        days = self.cleaned_data["days"]
        return timezone.now() + timedelta(days=int(days)) if days else None


class FilterForm(forms.Form):
    """A list's filter and the name that it gets."""

    page = forms.ChoiceField(choices=FilteredPage.choices)
    name = forms.CharField(max_length=40)
    query = forms.CharField(max_length=1000)

    def clean_query(self) -> str:
        """What filters, in one order; the page and the time zone do not belong to it."""
        query = plain_query(self.cleaned_data["query"])
        if not query:
            raise forms.ValidationError("Nothing is filtered here.")
        return query
