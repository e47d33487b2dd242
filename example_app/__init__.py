"""Placard, an advertising platform: the example of ``flask_signals_kit``.

Run it with ``flask --app example_app run --debug``, and read ``signals.py`` first.
"""

from collections.abc import Mapping
from typing import Any

from flask import Flask, render_template
from flask.typing import ResponseReturnValue
from werkzeug.exceptions import HTTPException, NotFound

from example_app.accounts.services import current_account
from example_app.accounts.views import bp as accounts
from example_app.alerts.views import bp as alerts
from example_app.bookkeeping.views import bp as bookkeeping
from example_app.campaigns.views import bp as campaigns
from example_app.celery_app import celery_init_app
from example_app.dashboard.views import bp as dashboard
from example_app.error_report.records import init_error_report
from example_app.error_report.sentry import init_sentry
from example_app.error_report.views import bp as error_report
from example_app.extensions import csrf, db, kit
from example_app.funding.views import bp as funding
from example_app.mails.views import bp as mails
from example_app.money import format_money
from example_app.onboarding.views import bp as onboarding
from example_app.seed import seed_if_empty
from example_app.sent_signals import init_sent_signals
from example_app.serving.views import bp as serving

BLUEPRINTS = (
    accounts,
    alerts,
    bookkeeping,
    campaigns,
    dashboard,
    error_report,
    funding,
    mails,
    onboarding,
    serving,
)

# No module imports the receivers, so the kit imports them.
RECEIVERS = (
    "example_app.activity.receivers",
    "example_app.alerts.receivers",
    "example_app.bookkeeping.receivers",
    "example_app.campaigns.receivers",
    "example_app.error_report.receivers",
    "example_app.mails.receivers",
    "example_app.onboarding.receivers",
    "example_app.serving.receivers",
    "example_app.slow_requests",
)


def create_app(config: Mapping[str, Any] | None = None) -> Flask:
    """Return the app, with its tables made and one account in them.

    :param config: settings that override the defaults and ``FLASK_*`` environment variables.
        ``SQLALCHEMY_DATABASE_URI`` is the database, by default a file in the instance folder.
        ``MAIL_OUTBOX`` is the folder that mails are written to, by default a folder in the
        instance folder. ``LEDGER`` is the file of the ledger.
    """
    app = Flask(__name__)
    app.config.from_mapping(
        SECRET_KEY="dev",  # noqa: S106 - FLASK_SECRET_KEY replaces it outside a demo.
        SESSION_COOKIE_SAMESITE="Lax",
        SQLALCHEMY_DATABASE_URI="sqlite:///placard.sqlite",
        MAIL_OUTBOX="mails",
        LEDGER="ledger.sqlite",
        SLOW_REQUEST_SECONDS=1.0,
        SIGNALS_KIT_IMPORT=list(RECEIVERS),
        CELERY={"broker_url": "redis://localhost", "task_ignore_result": True},
    )
    app.config.from_prefixed_env()
    app.config.from_mapping(config)

    db.init_app(app)  # Before the kit, whose after-commit receivers wait for its session.
    csrf.init_app(app)
    if app.config.get("SIGNALS_KIT_ENGINE") == "celery":
        celery_init_app(app)  # Before the kit, which adds its tasks.
    init_error_report(app)
    init_sent_signals(app)
    for blueprint in BLUEPRINTS:
        app.register_blueprint(blueprint)
    kit.init_app(app)
    init_sentry(app)

    app.register_error_handler(HTTPException, show_error)
    # An id beyond SQLite's integers is the id of nothing.
    app.register_error_handler(OverflowError, lambda error: show_error(NotFound()))
    app.add_template_filter(format_money, "money")
    app.add_template_global(current_account)

    with app.app_context():
        for engine in db.engines.values():
            kit.begin_immediate(engine)
        db.create_all()
        seed_if_empty()
    return app


def show_error(error: HTTPException) -> ResponseReturnValue:
    """Answer an error with a page that needs neither the database nor the session."""
    return render_template("error.html", error=error), error.code or 500
