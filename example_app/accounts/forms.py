"""The forms of the accounts."""

from wtforms import SelectField

from example_app.forms import Form, text_field

COUNTRIES = ["Austria", "France", "Germany", "Ireland", "Italy", "Netherlands", "Poland", "Spain"]
DOCUMENTS = ["Company register extract", "Passport", "Identity card"]


class AccountForm(Form):
    """Open an account."""

    name = text_field("Company name", autocomplete="organization")


class IdentificationForm(Form):
    """Submit identification for verification."""

    legal_name = text_field("Legal name", autocomplete="organization")
    country = SelectField("Country", choices=COUNTRIES)
    document = SelectField("Document", choices=DOCUMENTS)
    document_number = text_field("Document number", longest=40, hint="As printed on the document.")
