"""A PostgreSQL server of the tests' own, on a Unix socket in a folder of its own."""

import os
import shutil
import subprocess
import tempfile
import warnings
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from sqlalchemy import URL

from tests.support import require_service

USER = "postgres"
"""The superuser of the databases, and the account that runs the server for root."""


def programs_folder() -> Path:
    """Return the folder of the server's programs; skip the test without it.

    pgserver has them in its wheel. It has none for newer Pythons, which use Debian's package.
    """
    if find_spec("pgserver"):
        with warnings.catch_warnings(action="ignore"):  # of a missing XDG_RUNTIME_DIR
            commands: Any = import_module("pgserver._commands")
            utils: Any = import_module("pgserver.utils")
        folder = Path(commands.POSTGRES_BIN_PATH)
        if os.geteuid() == 0:
            utils.ensure_user_exists(USER)
            utils.ensure_prefix_permissions(folder)
        return folder
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parts[-2]))
    return require_service(
        found[-1] if found else None, "PostgreSQL is not installed: apt-get install postgresql"
    )


class PostgreSQLServer:
    """A server, which is started, stopped and started again at the same place."""

    def __init__(self) -> None:
        self._programs = programs_folder()
        self._account = USER if os.geteuid() == 0 else None  # the server refuses to run as root
        # Short: a socket's path is limited.
        self._folder = Path(tempfile.mkdtemp(prefix="postgresql-"))
        if self._account is not None:
            shutil.chown(self._folder, self._account)
        self._run("initdb", "--auth=trust", "--encoding=utf8", "--no-locale", "--username", USER)
        self.url = URL.create(
            "postgresql+psycopg", USER, database="postgres", query={"host": str(self._folder)}
        )

    def start(self) -> None:
        """Start it, and return when it answers."""
        options = f"-h '' -k {self._folder}"
        self._run("pg_ctl", "start", "--log", str(self._folder / "log"), "--options", options)

    def stop(self) -> None:
        """Stop it as a crash would: without a checkpoint, and its clients are cut off."""
        self._run("pg_ctl", "stop", "--mode", "immediate")

    def close(self) -> None:
        """Stop it for good."""
        self.stop()
        shutil.rmtree(self._folder)

    def _run(self, program: str, *arguments: str) -> None:
        subprocess.run(
            [self._programs / program, *arguments, "--pgdata", self._folder],
            check=True,
            cwd=self._folder,
            stdout=subprocess.DEVNULL,  # a server that is started keeps a pipe open
            user=self._account,
        )
