"""What the forms of all features share."""

from collections.abc import Callable
from decimal import Decimal

from flask_wtf import FlaskForm
from wtforms import DecimalField, Field, StringField, ValidationError
from wtforms.validators import DataRequired, InputRequired, Length

CENT = Decimal("0.01")


class Form(FlaskForm):  # type: ignore[misc]  # Flask-WTF comes without types.
    """A form with a CSRF token."""


def text_field(
    label: str, *, longest: int = 80, hint: str = "", autocomplete: str = "off"
) -> StringField:
    """Return a required one-line text field.

    White space around the text is removed.
    """
    return StringField(
        label,
        description=hint,
        filters=[lambda value: value.strip() if value else value],
        validators=[DataRequired(), Length(max=longest)],
        render_kw={"autocomplete": autocomplete},
    )


def amount_field(label: str, *, lowest: Decimal, highest: Decimal, hint: str = "") -> DecimalField:
    """Return a required field for an amount of money in whole cents."""
    return DecimalField(
        label,
        description=hint,
        validators=[InputRequired(), _between(lowest, highest)],
        render_kw={"step": str(CENT), "min": str(lowest), "max": str(highest)},
    )


def _between(lowest: Decimal, highest: Decimal) -> Callable[[Form, Field], None]:
    """Return a validator for a whole number of cents within both bounds."""

    def check(form: Form, field: Field) -> None:
        value: Decimal | None = field.data
        if value is None:
            return  # The field has already reported that this is not a number.
        # NaN and infinity are numbers to Decimal, but can be neither compared nor booked.
        if not value.is_finite() or not lowest <= value <= highest:
            raise ValidationError(f"Enter an amount from {lowest} to {highest}.")
        if value % CENT:
            raise ValidationError("Enter at most two digits after the point.")

    return check
