"""The mails of an account."""

from flask import Blueprint, render_template
from flask.typing import ResponseReturnValue

from example_app.accounts.services import current_account
from example_app.mails.outbox import mails_to

bp = Blueprint("mails", __name__, url_prefix="/mails")


@bp.get("/")
def index() -> ResponseReturnValue:
    """Show the current account's last mails."""
    return render_template("mails/index.html", mails=mails_to(current_account()))
