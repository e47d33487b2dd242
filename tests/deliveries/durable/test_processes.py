"""The embedded engine in real processes: when it starts, and how it ends."""

import json
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.request import urlopen

import pytest

from tests.faults.support import LIMIT, Processes
from tests.support import free_port, wait_until

APP = "tests.faults.shop:create_app()"

GUNICORN = [sys.executable, "-m", "gunicorn", "--no-control-socket", "-b", "127.0.0.1:{port}", APP]

FLASK = [sys.executable, "-m", "flask", "--app", APP, "run", "-p", "{port}"]

WAITRESS = [sys.executable, "-m", "waitress", "--listen", "127.0.0.1:{port}"]

SERVERS = {
    "flask": FLASK,
    "flask-one-thread": [*FLASK, "--without-threads"],
    "flask-reloader": [*FLASK, "--reload"],
    "gunicorn": GUNICORN,
    "gunicorn-preload": [*GUNICORN, "--preload"],
    "gunicorn-two-workers": [*GUNICORN, "--workers", "2", "--preload"],
    "gunicorn-threads": [*GUNICORN, "--threads", "2"],
    "gunicorn-gevent": [*GUNICORN, "-k", "gevent"],
    "waitress": [*WAITRESS, "--call", "tests.faults.shop:create_app"],
}


def packages_of(server: str) -> list[str]:
    """Return the packages that a server is from."""
    return [name for name in ("flask", "gunicorn", "gevent", "waitress") if name in server]


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[Processes]:
    """Give a shop on an SQLite file, in WAL mode."""
    processes = Processes(f"sqlite:///{tmp_path}/shop.sqlite?timeout=20", tmp_path)
    yield processes
    processes.close()


def get(port: int) -> dict[str, object]:
    """Return the process that answers, and its threads."""
    with urlopen(f"http://127.0.0.1:{port}/", timeout=10) as answer:
        found: dict[str, object] = json.load(answer)
        return found


def answers(port: int) -> bool:
    """Tell whether a server listens; this is no request."""
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


@pytest.mark.parametrize(
    "server",
    [pytest.param(name, marks=pytest.mark.needs(*packages_of(name))) for name in SERVERS],
)
def test_server_runs_what_was_due_and_ends(processes: Processes, server: str) -> None:
    """The engine starts with the first request, in the process that answers it."""
    processes.send(1, 3)
    port = free_port()
    command = [part.format(port=port) for part in SERVERS[server]]
    process = processes.start_command(command)
    wait_until(lambda: answers(port) or process.poll() is not None)
    assert processes.read("SELECT id FROM effect") == []
    answering = get(port)["process"]
    wait_until(lambda: not processes.messages())
    assert {run for [run] in processes.read("SELECT process FROM effect")} == {answering}
    process.send_signal(signal.SIGTERM if server.startswith("gunicorn") else signal.SIGINT)
    output, _ = process.communicate(timeout=LIMIT)
    assert process.returncode == 0, output
    assert "Traceback" not in output, output
    processes.check(orders=3, effects=3, repeated=0)


def run_code(processes: Processes, code: str, **settings: object) -> str:
    """Run code in a process with the shop and return its output; it must end properly."""
    code = f"from tests.faults.shop import *\n{code}"
    process = processes.start_command([sys.executable, "-c", code], **settings)
    output, _ = process.communicate(timeout=LIMIT)
    assert process.returncode == 0, output
    assert "Traceback" not in output, output
    return output


def test_command_starts_no_engine(processes: Processes) -> None:
    """Its messages are run by the processes that serve requests."""
    command = [sys.executable, "-m", "flask", "--app", "tests.faults.shop:create_app", "order"]
    output, _ = processes.start_command(command).communicate(timeout=LIMIT)
    assert output == "['MainThread']\n"
    processes.check(orders=1, waiting=2)


def test_engine_none_starts_nothing(processes: Processes) -> None:
    """It only stores messages."""
    run_code(
        processes,
        """
app = create_app(SIGNALS_KIT_ENGINE="none")
app.test_client().post("/order", data={"number": 1})
assert threading.active_count() == 1, threading.enumerate()
""",
    )
    processes.check(orders=1, waiting=2)


def test_app_in_tests_starts_no_engine(processes: Processes) -> None:
    """A test decides when its messages are run."""
    run_code(
        processes,
        """
app = create_app(TESTING=True)
app.test_client().post("/order", data={"number": 1})
assert threading.active_count() == 1, threading.enumerate()
""",
    )
    processes.check(orders=1, waiting=2)


def test_send_starts_the_engine(processes: Processes) -> None:
    """In a process that serves no requests."""
    run_code(
        processes,
        """
app = create_app()
with app.app_context():
    place_order(1)
    while db.session.query(Effect).count() == 0:
        db.session.rollback()
        time.sleep(0.01)
""",
    )
    assert processes.read("SELECT number FROM effect") == [(1,)]


@pytest.mark.parametrize("start", ["client.get('/')", "client.post('/order', data={'number': 2})"])
def test_fork_starts_an_engine_of_its_own(processes: Processes, start: str) -> None:
    """With its first request, also if its parent has started one before."""
    run_code(
        processes,
        f"""
app = create_app()
client = app.test_client()
client.post("/order", data={{"number": 1}})
with app.app_context():
    while db.session.scalar(db.text("SELECT count(*) FROM signals_outbox")):
        db.session.rollback()
        time.sleep(0.01)
    db.session.rollback()
    db.engine.dispose()  # SQLite's connections cannot be used in another process
child = os.fork()
if child == 0:
    {start}
    [thread] = [each for each in threading.enumerate() if each.name == "signals_outbox"]
    os._exit(0 if thread.is_alive() else 1)
assert os.waitpid(child, 0)[1] == 0
""",
    )


def test_process_ends_after_the_runs_that_have_begun(processes: Processes) -> None:
    """Messages that were claimed, but have not begun, are left to other processes."""
    run_code(
        processes,
        """
import concurrent.futures.thread
# Called after the engine was stopped, and before the threads of executors are joined.
threading._register_atexit((folder() / "go").touch)
app = create_app()
with app.app_context():
    for number in range(50):
        place_order(number)
    # Those of the other receiver do not wait.
    begun = "SELECT count(*) FROM signals_outbox WHERE attempt = 1 AND receiver = 'inside'"
    while db.session.scalar(db.text(begun)) < 4:
        db.session.rollback()
        time.sleep(0.01)
""",
        fault="in_receiver:*:wait",
    )
    processes.check(orders=50, effects=4, waiting=processes.count().waiting)
    assert all(row.attempt == 0 for row in processes.messages())


def test_thread_of_a_dropped_app_ends(processes: Processes) -> None:
    """Nothing keeps the app."""
    run_code(
        processes,
        """
import gc, weakref
app = create_app()
app.test_client().get("/")
[thread] = [each for each in threading.enumerate() if each.name == "signals_outbox"]
reference = weakref.ref(app)
with app.app_context():
    db.engine.dispose()
del app
while reference() is not None:
    gc.collect()
    time.sleep(0.01)
thread.join(30)
assert not thread.is_alive()
""",
    )
