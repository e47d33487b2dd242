"""Take the pictures of the page anew: ``.venv/bin/python -m docs.screenshots``.

They show the example app with its seeded account, in light and dark. Needs Chromium.
"""
# ruff: noqa: INP001 - Sphinx's folder is no package; this is run from the project's root.

import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

from playwright.sync_api import sync_playwright

from example_app import create_app
from tests.conftest import CHROMIUM_FLAGS
from tests.support import serving

FOLDER = Path(__file__).parent / "_static"
PICTURES = {"light": "signals-page.png", "dark": "signals-page-dark.png"}


def main() -> None:
    """Write both pictures."""
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    with TemporaryDirectory() as folder, sync_playwright() as playwright:
        app = create_app(
            {
                "SQLALCHEMY_DATABASE_URI": f"sqlite:///{folder}/placard.sqlite",
                "MAIL_OUTBOX": folder,
            }
        )
        app.debug = True
        browser = playwright.chromium.launch(executable_path=path, args=CHROMIUM_FLAGS)
        with serving(app) as url:
            for scheme, name in PICTURES.items():
                page = browser.new_page(
                    viewport={"width": 1280, "height": 760},
                    device_scale_factor=1.5,
                    color_scheme="dark" if scheme == "dark" else "light",
                )
                page.goto(f"{url}/_signals")
                page.screenshot(path=FOLDER / name)
        browser.close()


if __name__ == "__main__":
    main()
