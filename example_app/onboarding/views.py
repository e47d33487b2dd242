"""The wizard's page."""

from flask import Blueprint, render_template
from flask.typing import ResponseReturnValue

from example_app.accounts.services import current_account
from example_app.onboarding.wizard import progress_of

bp = Blueprint("onboarding", __name__, url_prefix="/onboarding")


@bp.get("/")
def wizard() -> ResponseReturnValue:
    """Show the steps, done and open."""
    return render_template("onboarding/wizard.html", progress=progress_of(current_account()))
