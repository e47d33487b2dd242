"""The alerts of an account, on their own page and on top of every other."""

from typing import Any

from flask import Blueprint, flash, redirect, render_template, url_for
from flask.typing import ResponseReturnValue
from sqlalchemy import select

from example_app.accounts.services import current_account
from example_app.alerts.models import Alert
from example_app.alerts.services import dismiss, open_alerts
from example_app.extensions import db

bp = Blueprint("alerts", __name__, url_prefix="/alerts")


@bp.app_context_processor
def banner() -> dict[str, Any]:
    """Let every template show the open alerts."""
    return {"open_alerts": open_alerts}


@bp.get("/")
def index() -> ResponseReturnValue:
    """List the current account's alerts, open and dismissed."""
    alerts = db.session.scalars(
        select(Alert).where(Alert.account_id == current_account().id).order_by(Alert.id.desc())
    ).all()
    return render_template("alerts/index.html", alerts=alerts)


@bp.post("/<int:alert_id>/dismiss")
def dismiss_alert(alert_id: int) -> ResponseReturnValue:
    """Dismiss one of the current account's alerts."""
    alert = db.first_or_404(
        select(Alert).where(Alert.id == alert_id, Alert.account_id == current_account().id)
    )
    dismiss(alert, by="you")
    db.session.commit()
    flash("Alert dismissed.", "success")
    return redirect(url_for("alerts.index"))
