"""A RabbitMQ server of the tests' own, on ports of the loopback and in a folder of its own."""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from contextlib import suppress
from pathlib import Path

from tests.support import free_port, require_service

PROGRAM = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
"""Debian's; the one on the path changes the user."""


class RabbitServer:
    """A server, which is started, stopped and started again with what it has stored."""

    def __init__(self) -> None:
        found = PROGRAM if PROGRAM.exists() else None
        require_service(found, "RabbitMQ is not installed: apt-get install rabbitmq-server")
        self._folder = Path(tempfile.mkdtemp(prefix="rabbitmq-"))
        self._port, ports, distribution = free_port(), free_port(), free_port()
        self._server: subprocess.Popen[bytes] | None = None
        self.url = f"amqp://guest:guest@127.0.0.1:{self._port}//"
        (self._folder / "plugins").write_text("[].\n")
        self._environment = os.environ | {
            "HOME": str(self._folder),
            "ERL_EPMD_PORT": str(ports),
            "RABBITMQ_NODENAME": "test@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(self._port),
            "RABBITMQ_DIST_PORT": str(distribution),
            "RABBITMQ_MNESIA_BASE": str(self._folder),
            "RABBITMQ_LOG_BASE": str(self._folder),
            "RABBITMQ_CONF_ENV_FILE": "/dev/null",
            "RABBITMQ_CONFIG_FILE": str(self._folder / "none"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self._folder / "plugins"),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-start_epmd false "
            "-kernel inet_dist_use_interface {127,0,0,1}",
        }
        # Erlang's table of ports; a server that does not find it starts one that does not end.
        self._epmd = subprocess.Popen(
            ["epmd", "-address", "127.0.0.1", "-port", str(ports)],
            stdout=subprocess.DEVNULL,
        )

    def start(self) -> None:
        """Start it, and return when it answers."""
        with (self._folder / "output").open("ab") as output:
            self._server = subprocess.Popen(
                [PROGRAM],
                env=self._environment,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        for _ in range(300):
            with suppress(OSError), socket.create_connection(("127.0.0.1", self._port), 1):
                return
            time.sleep(0.1)
        raise AssertionError((self._folder / "output").read_text())

    def stop(self) -> None:
        """Kill it."""
        if self._server is not None:
            os.killpg(self._server.pid, signal.SIGKILL)
            self._server.wait(10)
            self._server = None

    def close(self) -> None:
        """Stop it for good."""
        self.stop()
        self._epmd.kill()
        self._epmd.wait(10)
        shutil.rmtree(self._folder, ignore_errors=True)
