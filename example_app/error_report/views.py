"""The error report, and two ways to fill it."""

from flask import Blueprint, flash, redirect, render_template, url_for
from flask.typing import ResponseReturnValue

from example_app.accounts.services import current_account
from example_app.error_report.receivers import DemonstrationError
from example_app.error_report.records import error_records
from example_app.signals import breakage_requested

bp = Blueprint("error_report", __name__, url_prefix="/errors")


@bp.get("/")
def index() -> ResponseReturnValue:
    """List the last errors, newest first."""
    return render_template("error_report/index.html", records=list(reversed(error_records())))


@bp.post("/break-receiver")
def break_receiver() -> ResponseReturnValue:
    """Send a signal whose receiver fails; the signal isolates it, so this view continues."""
    breakage_requested.send(current_account())
    flash(
        "A receiver failed. Its failure was isolated and reported, and this request continued.",
        "info",
    )
    return redirect(url_for("error_report.index"))


@bp.post("/break-request")
def break_request() -> ResponseReturnValue:
    """Fail in the view itself."""
    raise DemonstrationError("This view fails on purpose.")
