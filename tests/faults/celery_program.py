"""The shop on Celery: ``celery -A tests.faults.celery_program worker``.

``SHOP_CELERY`` is the URL of the broker; for the other variables see :mod:`tests.faults.shop`.
"""

import os

from tests.contrib.celery_shop import celery_init_app
from tests.faults.program import add_all_points
from tests.faults.shop import create_app

CONFIG = {
    "broker_url": os.environ["SHOP_CELERY"],
    "broker_connection_retry_on_startup": True,
    "worker_proc_alive_timeout": 60.0,
    "beat_schedule": {
        # As the kit adds it, but what is lost is found sooner.
        "signals.forward": {
            "task": "signals.forward",
            "schedule": 0.25,
            "kwargs": {"resend": 2.0},
            "options": {"expires": 2.0},
        }
    },
}

add_all_points()
flask_app = create_app(celery_init_app, SIGNALS_KIT_ENGINE="celery", CELERY=CONFIG)
celery_app = flask_app.extensions["celery"]
