"""The wizard's page."""

from flask import Blueprint, Response, g, render_template, url_for
from flask.typing import ResponseReturnValue

from example_app.accounts.services import current_account
from example_app.onboarding.wizard import progress_of

bp = Blueprint("onboarding", __name__, url_prefix="/onboarding")


@bp.after_app_request
def lead_back(response: Response) -> Response:
    """Redirect to the wizard after a request that finished one of its steps.

    So the page that a step is done on does not need to know that there is a wizard.
    """
    if g.pop("finished_step", False) and response.location:
        response.location = url_for("onboarding.wizard")
    return response


@bp.get("/")
def wizard() -> ResponseReturnValue:
    """Show the steps, done and open."""
    return render_template("onboarding/wizard.html", progress=progress_of(current_account()))
