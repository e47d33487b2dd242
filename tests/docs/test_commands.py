"""The commands of the manual print what the manual says, in a real shell."""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from socket import socket
from time import sleep
from urllib.error import URLError
from urllib.request import Request, urlopen

from tests.docs.support import text_of

BLOCK = re.compile(r"^```(python|console)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def run(session: str, folder: Path) -> str:
    """Type the commands of a console session into a shell, and return the session as it looks then.

    :param session: lines that begin with ``$`` are commands; what is printed is not looked at.
    :param folder: where to run them.
    """
    commands = [line for line in session.splitlines() if line.startswith("$ ")]
    # `echo $?` has to mean the command, not the printing of the line before it.
    echoing = "".join(
        f"(status=$?; echo {shlex.quote(line)}; exit $status)\n{line[2:]}\n" for line in commands
    )
    environment = {
        name: value for name, value in os.environ.items() if name not in {"COLUMNS", "NO_COLOR"}
    }
    path = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    return subprocess.run(
        ["sh"],
        input=echoing,
        cwd=folder,
        env={**environment, "PATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    ).stdout


def shop_with(page: str) -> str:
    """Return the quick start's ``shop.py`` with the Python code of a part of a page."""
    code = [
        [text for language, text in BLOCK.findall(each) if language == "python"]
        for each in (text_of("docs/quickstart.md"), page)
    ]
    return "\n\n".join([code[0][0], *code[1]])


@contextmanager
def running(folder: Path) -> Iterator[str]:
    """Run the folder's ``shop.py`` in debug mode; the value is its URL."""
    with socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "flask", "--app", "shop", "run", "--debug", "--no-reload"]
    with subprocess.Popen(
        [*command, "--port", str(port)],
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        yield f"http://127.0.0.1:{port}"
        process.terminate()


def post(url: str) -> None:
    """Send a POST request to an app that may be starting."""
    for _ in range(100):
        with suppress(URLError), urlopen(Request(url, method="POST"), timeout=10):
            return
        sleep(0.1)
    raise TimeoutError(url)


def test_commands_print_the_output_in_the_manual(tmp_path: Path) -> None:
    """The quick start's ``shop.py``, and what the page adds to it, give the printed sessions.

    What a subsection adds is gone after it.
    """
    shop = next(
        text
        for language, text in BLOCK.findall(text_of("docs/quickstart.md"))
        if language == "python"
    )
    page = text_of("docs/commands.md")
    sessions = 0
    for section in re.split("^(?=##)", page, flags=re.MULTILINE):
        with_section = shop
        for language, text in BLOCK.findall(section):
            if language == "python":
                with_section += f"\n\n{text}"
                continue
            (tmp_path / "shop.py").write_text(with_section)
            assert run(text, tmp_path) == text
            sessions += 1
        if section.startswith("## "):
            shop = with_section
    assert sessions == page.count("```console\n") > 0


def test_why_prints_what_the_manual_says_about_a_running_app(tmp_path: Path) -> None:
    """Times, durations and the port differ."""
    section = text_of("docs/commands.md").partition("## `flask signals why`")[2]
    section = section.partition("\n## ")[0]
    (tmp_path / "shop.py").write_text(shop_with(section))
    shown = section.partition("```text\n")[2].partition("```")[0]
    with running(tmp_path) as url:
        post(f"{url}/accounts/acme/fund")
        command = shown.partition("\n")[0].replace("http://127.0.0.1:5000", url)
        printed = run(command, tmp_path)

    def comparable(text: str) -> str:
        text = text.partition("Last emissions")[2].replace(url, "http://127.0.0.1:5000")
        text = re.sub(r"\d\d:\d\d:\d\d\.\d{3}", "TIME", text)
        return re.sub(r"[\d.]+ (µs|ms)", "DURATION", text)

    assert comparable(printed) == comparable(shown) != ""
