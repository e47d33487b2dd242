"""Source code on the page: places that open an editor, and the code of receivers."""

import re
from html import unescape
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from flask import Flask

from flask_signals_kit import SignalsKit
from flask_signals_kit.debug.page.source import SOURCE_LINES, editor_url, source
from flask_signals_kit.records import Place
from flask_signals_kit.settings import EDITORS
from tests.debug.page.test_paging import make_app as make_long_app
from tests.debug.page.test_views import make_app as make_mixed_app
from tests.debug.page.test_views import page, twin, words

HOSTILE = "/srv/a b#1?x=%2e&\"'><script>{line}é\\n.py"
QUOTED = "/srv/a%20b%231%3Fx%3D%252e%26%22%27%3E%3Cscript%3E%7Bline%7D%C3%A9%5Cn.py"


def place(file: str | None, line: int | None = 1) -> Place:
    """Return a place in a file."""
    return Place(module="shop", name="receive", file=file, line=line)


def write(folder: Path, text: str) -> Place:
    """Write a Python file and return the place of its first line."""
    path = folder / "shop.py"
    path.write_text(text)
    return place(str(path))


def text_at(place: Place) -> str:
    """Return the code that begins at a place."""
    found = source(place)
    assert found is not None
    return found.text


def connected(text: str, file: str | None = "/srv/shop.py", **config: Any) -> Flask:
    """Return an app with the receiver that some code, compiled with a file name, defines."""
    app = Flask("shop")
    app.config.update({"TESTING": True} | config)
    kit = SignalsKit(app)
    names: dict[str, Any] = {"__name__": "shop", "kit": kit}
    exec(compile(text, str(file), "exec"), names)
    app.config["USE"] = names.get("use")
    return app


def links(html: str) -> set[str]:
    """Return the URLs of the links that open an editor."""
    return {unescape(url) for url in re.findall(r'href="(vscode:[^"]*)"', html)}


RECEIVER = '@kit.on("account_funded")\ndef receive(account, **extra): ...\n'

# -- links ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("editor", "file", "url"),
    [
        ("vscode", "/srv/shop.py", "vscode://file/srv/shop.py:7"),
        ("vscode", r"C:\shop\a b.py", "vscode://file/C:/shop/a%20b.py:7"),
        ("vscode", r"\\host\share\shop.py", "vscode://file//host/share/shop.py:7"),
        ("vscode", HOSTILE, f"vscode://file{QUOTED}:7"),
        ("pycharm", "/srv/shop.py", "pycharm://open?file=/srv/shop.py&line=7"),
        ("pycharm", "c:/shop/a.py", "pycharm://open?file=c:/shop/a.py&line=7"),
        ("pycharm", HOSTILE, f"pycharm://open?file={QUOTED}&line=7"),
        ("sublime", "/srv/shop.py", "subl://open?url=file:///srv/shop.py&line=7"),
        ("sublime", r"C:\shop.py", "subl://open?url=file:///C:/shop.py&line=7"),
        ("sublime", HOSTILE, f"subl://open?url=file://{QUOTED}&line=7"),
    ],
)
def test_place_has_the_url_of_each_editor(editor: str, file: str, url: str) -> None:
    """With the file percent-encoded, on Linux and on Windows."""
    assert editor_url(EDITORS[editor], place(file, 7)) == url


@pytest.mark.parametrize("pattern", ["edit://{file}", "edit:///{file}", "edit:{file}"])
def test_path_does_not_become_the_host(pattern: str) -> None:
    """In a URL of a user's own."""
    url = urlsplit(editor_url(pattern, place("/srv/shop.py", 7)) or "")
    assert (url.netloc, url.path) == ("", "/srv/shop.py")


def test_line_is_optional() -> None:
    """In the pattern, and in the place."""
    assert editor_url("edit:{file}", place("/shop.py", 7)) == "edit:/shop.py"
    assert editor_url("edit:{file}:{line}", place("/shop.py", None)) == "edit:/shop.py:1"


@pytest.mark.parametrize("file", [None, "", "<string>", "shop.py", "C:shop.py", "./shop.py"])
def test_place_without_an_absolute_path_has_no_url(file: str | None) -> None:
    """An editor could not find it."""
    assert editor_url(EDITORS["vscode"], place(file)) is None


PLACES = """\
@kit.declare(on_error="isolate")
def account_funded(sender, *, amount): ...
@kit.on(account_funded, when=lambda account, **extra: True)
def receive(account, amount): ...
@kit.on(account_funded)
def fail(account, **extra):
    1 / 0
def use():
    account_funded.send(amount=1)
"""


def test_every_place_is_a_link() -> None:
    """Of declarations, receivers, predicates, problems, failures, sends and steps."""
    app = connected(PLACES, SIGNALS_KIT_EDITOR="vscode")
    with app.app_context():
        app.config["USE"]()
    [request] = set(re.findall(r"/requests/\d+", page(app, "/requests")))
    [emission] = set(re.findall(r"/emissions/\d+", page(app, request)))
    lines = {
        "/signals": {1, 3, 5},
        "/signals/account_funded": {1, 3, 5, 7},
        request: {3, 5, 7, 9},
        emission: {3, 5, 7, 9},
    }
    for url, expected in lines.items():
        html = page(app, url).replace("<wbr>", "")
        assert links(html) == {f"vscode://file/srv/shop.py:{line}" for line in expected}
        shown = html.count(">/srv/shop.py:")
        assert len(re.findall(r"/srv/shop\.py:\d+</a></code>", html)) == shown > 0
    html = page(app).replace("<wbr>", "")
    assert 'title="/srv/shop.py:3"><a href="vscode://file/srv/shop.py:3">&lt;lambda&gt;</a>' in html


def test_places_are_text_without_an_editor() -> None:
    """The default."""
    html = page(make_mixed_app(), "/signals/account_funded")
    assert "test_views.py" in html
    assert not re.search(r"<code[^>]*><a", html)


def test_json_has_no_editor() -> None:
    """It is the same with and without one."""
    plain, linked = connected(RECEIVER), connected(RECEIVER, SIGNALS_KIT_EDITOR="vscode")
    assert twin(plain) == twin(linked)


# -- the code of a receiver -----------------------------------------------------------------------


def test_code_has_decorators_and_its_own_indentation(tmp_path: Path) -> None:
    """It ends with the function."""
    begin = (
        "@decorate(\n    1,\n)\nasync def receive(sender):\n    if sender:\n\n        return 1\n"
    )
    assert text_at(write(tmp_path, f"{begin}\nSECRET = 2\n")) == begin
    method = "    @property\n    def receive(self):\n        return 1\n    SECRET = 2\n"
    assert text_at(write(tmp_path, method)) == "@property\ndef receive(self):\n    return 1\n"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("on(lambda sender: 1)\nSECRET = 2\n", "on(lambda sender: 1)\n"),
        (")(lambda sender: 1)\nSECRET = 2\n", ")(lambda sender: 1)\n"),
        ("    lambda sender: 1, key=(\n", "lambda sender: 1, key=(\n"),
        ("    lambda sender: '''1\n", "lambda sender: '''1\n"),
    ],
)
def test_code_of_a_lambda_is_its_line(tmp_path: Path, text: str, shown: str) -> None:
    """Also if the expression begins before that line, or does not end."""
    assert text_at(write(tmp_path, text)) == shown


def test_long_code_is_cut(tmp_path: Path) -> None:
    """The page says how many lines there are."""
    text = RECEIVER.replace("...", "\n" + "".join(f"    {number}\n" for number in range(3, 201)))
    there = write(tmp_path, text)
    found = source(there)
    assert found is not None
    assert found.text.splitlines()[-1] == f"    {SOURCE_LINES}"
    assert (found.shown, found.total) == (SOURCE_LINES, 200)
    shown = words(page(connected(text, there.file), "/signals/account_funded"))
    assert f" {SOURCE_LINES} The first {SOURCE_LINES} of 200 lines." in shown


def test_code_is_what_the_file_contains_now(tmp_path: Path) -> None:
    """A changed file is read again; if no function begins at the line, there is no code."""
    there = write(tmp_path, "def receive(sender): return 1\n")
    assert text_at(there) == "def receive(sender): return 1\n"
    assert text_at(write(tmp_path, "def receive(): return 2\n")) == "def receive(): return 2\n"
    assert source(write(tmp_path, "PASSWORD = '…'\n\ndef receive(sender): ...\n")) is None
    assert source(write(tmp_path, "PASSWORD = '…'  # no lambda\n")) is None
    Path(str(there.file)).unlink()
    assert source(there) is None


def test_only_python_files_are_read(tmp_path: Path) -> None:
    """A file name is only a text, which may lead to any file."""
    path = tmp_path / "passwords.txt"
    path.write_text("def receive(sender): ...\n")
    assert source(place(str(path))) is None
    path.rename(tmp_path / "shop.py")
    assert source(place(str(tmp_path / "shop.py"), 1)) is not None
    assert source(place(str(tmp_path / "shop.py"), 9)) is None
    assert source(place(str(tmp_path / "shop.py"), None)) is None
    assert source(place("test_editor.py")) is None
    assert source(place(None)) is None
    (tmp_path / "shop.py").write_bytes(b"def receive():\n    '\xff'\n")
    assert source(place(str(tmp_path / "shop.py"))) is None


def test_code_is_shown_below_its_receiver(tmp_path: Path) -> None:
    """On the page of a signal, but not in the list."""
    app = connected(RECEIVER, write(tmp_path, RECEIVER).file)
    rows = re.findall(r"<tr[ >].*?</tr>", page(app, "/signals/account_funded"), re.DOTALL)
    assert words(rows[2]) == f"Source of receive {' '.join(RECEIVER.split())}"
    assert "<details>" in rows[2]
    assert "Source of" not in page(app)


def test_code_that_cannot_be_read_has_a_message() -> None:
    """In place of the code."""
    html = page(connected(RECEIVER, "/none/such.py"), "/signals/account_funded")
    assert "The source cannot be read." in words(html)
    assert "<details>" not in html


def test_code_is_shown_for_the_first_receivers() -> None:
    """Of each page; so the page of 10,000 receivers stays fast."""
    app = make_long_app(1, 130)
    for query in ("", "?receivers=2"):
        html = page(app, f"/signals/account_00000_funded{query}")
        assert html.count("Source<span") == 20


def test_files_and_code_are_escaped(tmp_path: Path) -> None:
    """Both may contain markup."""
    folder = tmp_path / '"><script>alert(1)<'
    folder.mkdir(parents=True)
    text = RECEIVER.replace("...", "return '</code></pre><script>alert(2)</script>'")
    app = connected(text, write(folder, text).file, SIGNALS_KIT_EDITOR="vscode")
    html = page(app, "/signals/account_funded")
    assert "<script>alert" not in html
    assert "&lt;script&gt;alert(2)" in html
    [url] = {url for url in links(html) if "alert" in url}
    assert "%22%3E%3Cscript%3Ealert%281%29%3C/shop.py" in url
