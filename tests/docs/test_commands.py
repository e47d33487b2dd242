"""The commands of the manual print what the manual says, in a real shell."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

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


def test_commands_print_the_output_in_the_manual(tmp_path: Path) -> None:
    """The quick start's ``shop.py``, and what the page adds to it, give the printed sessions."""
    shop = next(
        text
        for language, text in BLOCK.findall(text_of("docs/quickstart.md"))
        if language == "python"
    )
    page = text_of("docs/commands.md")
    sessions = 0
    for language, text in BLOCK.findall(page):
        if language == "python":
            shop += f"\n\n{text}"
            continue
        (tmp_path / "shop.py").write_text(shop)
        assert run(text, tmp_path) == text
        sessions += 1
    assert sessions == page.count("```console\n") > 0
