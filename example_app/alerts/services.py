"""Raise, find and dismiss alerts. Nothing here commits."""

from collections.abc import Sequence

from sqlalchemy import select

from example_app.accounts.models import Account
from example_app.alerts.models import Alert, Kind
from example_app.columns import now
from example_app.extensions import db
from example_app.signals import alert_raised


def open_alerts(account: Account) -> Sequence[Alert]:
    """Return an account's open alerts, newest first."""
    return db.session.scalars(
        select(Alert)
        .where(Alert.account_id == account.id, Alert.dismissed_at.is_(None))
        .order_by(Alert.id.desc())
    ).all()


def raise_alert(account: Account, kind: Kind, message: str) -> None:
    """Raise an alert, unless one of its kind is open already."""
    if any(alert.kind == kind for alert in open_alerts(account)):
        return
    db.session.add(Alert(account_id=account.id, kind=kind, message=message))
    db.session.flush()
    alert_raised.send(account, kind=kind, message=message)


def dismiss(alert: Alert, *, by: str) -> None:
    """Dismiss an alert and record by what; a second call changes nothing."""
    if alert.dismissed_at is None:
        alert.dismissed_at = now()
        alert.dismissed_by = by
