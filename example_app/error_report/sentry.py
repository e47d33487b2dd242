"""Report to Sentry, if the environment names a project there."""

import os

from flask import Flask

from example_app.extensions import kit


def init_sentry(app: Flask) -> None:
    """Send every exception that the kit reports to Sentry when ``SENTRY_DSN`` is set.

    The kit reports what Sentry's own Flask integration misses (receivers, teardown, commands);
    what both see, Sentry's deduplication drops.
    """
    dsn = os.environ.get("SENTRY_DSN")
    if not dsn:
        return
    import sentry_sdk  # Optional: only whoever sets a DSN needs it.

    sentry_sdk.init(dsn=dsn)

    @kit.for_app(app).on_exception
    def report(app: Flask, exception: BaseException, **extra: object) -> None:
        sentry_sdk.capture_exception(exception)
