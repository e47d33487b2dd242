"""The form of the publisher's page."""

from wtforms import IntegerField, SelectChoice, SelectField
from wtforms.validators import InputRequired, NumberRange

from example_app.campaigns.models import Placement
from example_app.forms import Form


class ViewsForm(Form):
    """Open a publisher's page, as readers do."""

    placement = SelectField(
        "Placement",
        choices=[SelectChoice(place.value, place.value.capitalize()) for place in Placement],
    )
    views = IntegerField(
        "Page views",
        default=1,
        validators=[InputRequired(), NumberRange(min=1, max=100)],
        render_kw={"min": 1, "max": 100},
    )
