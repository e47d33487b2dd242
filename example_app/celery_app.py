"""The Celery app, as Flask's documentation describes it."""

from typing import TYPE_CHECKING

from flask import Flask

if TYPE_CHECKING:
    from celery import Celery


def celery_init_app(app: Flask) -> "Celery":
    """Return the Celery app of a Flask app, whose tasks run in an app context."""
    from celery import Celery, Task  # Only for the demo on Celery.

    class FlaskTask(Task):  # type: ignore[misc]
        def __call__(self, *args: object, **kwargs: object) -> object:
            with app.app_context():
                return self.run(*args, **kwargs)

    celery_app = Celery(app.name, task_cls=FlaskTask)
    celery_app.config_from_object(app.config["CELERY"])
    celery_app.set_default()
    app.extensions["celery"] = celery_app
    return celery_app
