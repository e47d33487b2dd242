"""The app that Celery's commands load: ``celery -A example_app.make_celery worker``.

Set ``FLASK_SIGNALS_KIT_ENGINE=celery``.
"""

from example_app import create_app

flask_app = create_app()
celery_app = flask_app.extensions["celery"]
