"""Report to Sentry, if ``SENTRY_DSN`` is set."""

import os

from flask import Flask

from example_app.extensions import kit


def init_sentry(app: Flask) -> None:
    """Send every exception that the kit reports to Sentry when ``SENTRY_DSN`` is set.

    The kit reports exceptions that Sentry's own Flask integration misses (receivers, teardown,
    commands). If both report an exception, Sentry drops the duplicate.
    """
    dsn = os.environ.get("SENTRY_DSN")
    if not dsn:
        return
    import sentry_sdk  # Optional: needed only with a DSN.

    sentry_sdk.init(dsn=dsn)

    @kit.for_app(app).on_exception
    def report(app: Flask, exception: BaseException, **extra: object) -> None:
        sentry_sdk.capture_exception(exception)
