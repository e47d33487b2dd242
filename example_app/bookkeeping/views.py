"""The entries of the ledger, and a switch that takes it down."""

from flask import Blueprint, flash, redirect, render_template, url_for
from flask.typing import ResponseReturnValue

from example_app.accounts.services import current_account
from example_app.bookkeeping.ledger import entries, is_down, switch

bp = Blueprint("bookkeeping", __name__, url_prefix="/ledger")


@bp.get("/")
def index() -> ResponseReturnValue:
    """Show the current account's last entries."""
    return render_template(
        "bookkeeping/index.html", entries=entries(current_account().id), is_down=is_down()
    )


@bp.post("/down")
def take_down() -> ResponseReturnValue:
    """Take the ledger down: payments wait for it."""
    switch(down=True)
    flash("The ledger is down. Payments are accepted, and posted later.", "info")
    return redirect(url_for("bookkeeping.index"))


@bp.post("/up")
def bring_up() -> ResponseReturnValue:
    """Let the ledger answer again: what waits is posted at its next attempt."""
    switch(down=False)
    flash("The ledger answers again. What waits is posted at its next attempt.", "info")
    return redirect(url_for("bookkeeping.index"))
