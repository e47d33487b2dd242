"""The forms of the campaigns."""

from decimal import Decimal

from wtforms import SelectChoice, SelectField

from example_app.campaigns.models import Placement
from example_app.forms import Form, amount_field, text_field


class CampaignForm(Form):
    """Create a campaign."""

    name = text_field("Campaign name", hint="Only you see it.")


class CreativeForm(Form):
    """Add a creative."""

    headline = text_field("Headline", longest=50)
    text = text_field("Text", longest=120)


class BidForm(Form):
    """Place a bid."""

    placement = SelectField(
        "Placement",
        choices=[SelectChoice(place.value, place.value.capitalize()) for place in Placement],
    )
    amount = amount_field("Euros per impression", lowest=Decimal("0.01"), highest=Decimal(100))
