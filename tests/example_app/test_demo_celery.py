"""`make demo-celery` starts four processes, and stops all of them."""

import os
import re
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from socket import socket

import pytest

from tests.example_app.support import ROOT, environment
from tests.support import wait_until


def is_running(group: int) -> bool:
    """Tell whether a process of this group exists."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


class Demo:
    """The running demo."""

    def __init__(self, folder: Path) -> None:
        with socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.log = folder / "log"
        with self.log.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "example_app.demo_celery", "--port", str(self.port)],
                cwd=ROOT,
                env=environment(folder),
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    @property
    def processes(self) -> dict[str, int]:
        """What the demo has started, and the ids of these processes."""
        found = re.findall(r"^(\w+): process (\d+)$", self.log.read_text(), re.MULTILINE)
        return {name: int(process) for name, process in found}

    def left(self) -> list[str]:
        """Return the names of those that still run, or whose children do."""
        return [name for name, process in self.processes.items() if is_running(process)]

    def wait_until_it_answers(self) -> None:
        """Return when the app answers and the worker is connected."""
        wait_until(self._answers, "the app answers", self.log.read_text)
        wait_until(lambda: "[queues]" in self.log.read_text(), "the worker", self.log.read_text)

    def _answers(self) -> bool:
        with suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{self.port}/") as answer:
            return bool(answer.status == 200)
        return False


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[Demo]:
    """Give the running demo."""
    demo = Demo(tmp_path)
    try:
        demo.wait_until_it_answers()
        yield demo
    finally:
        demo.process.terminate()
        demo.process.wait(60)


@pytest.mark.parametrize("ends", [signal.SIGINT, signal.SIGTERM])
def test_all_stop_with_the_demo(demo: Demo, ends: signal.Signals) -> None:
    """By Ctrl-C, or if the demo is stopped."""
    assert demo.left() == ["redis", "worker", "beat", "app"]
    demo.process.send_signal(ends)
    assert demo.process.wait(60) == 0
    assert demo.left() == []


def test_all_stop_if_one_ends(demo: Demo) -> None:
    """The last line says which one."""
    os.kill(demo.processes["beat"], signal.SIGKILL)
    assert demo.process.wait(60) == 1
    assert demo.left() == []
    assert demo.log.read_text().endswith("Error: beat has ended, so the others are stopped.\n")
