"""How Sphinx builds the manual: offline, with every warning an error."""

import sys
from importlib.metadata import version as version_of
from typing import Any, get_type_hints

from sphinx.application import Sphinx

import flask_signals_kit

project = "flask_signals_kit"
author = "The flask_signals_kit contributors"
copyright = f"2026, {author}"
version = release = version_of("flask-signals-kit")

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx_copybutton",
]
exclude_patterns = ["_build"]

myst_enable_extensions = ["colon_fence", "deflist", "fieldlist"]
myst_heading_anchors = 3

autodoc_default_options = {"show-inheritance": True}
autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented_params"
autodoc_preserve_defaults = True
python_use_unqualified_type_names = True

# A reference that leads nowhere is an error, unless it names something of another project: the
# build asks no other site for its inventory. A name of the kit's own is never excused.
nitpicky = True
elsewhere = "|".join(sorted({*sys.stdlib_module_names, "blinker", "click", "flask", "werkzeug"}))
nitpick_ignore_regex = [
    (r"py:.*", rf"({elsewhere})(\.\w+)*"),
    # The default, which needs no framework, is all that a user of Signal needs.
    (r"py:.*", r"flask_signals_kit\.core\.environment\.Environment"),
    # The base class of Signal; its methods are in the reference of Signal.
    (r"py:.*", r"flask_signals_kit\.core\.connectable\.ConnectableSignal"),
    (r"py:.*", r"(flask_signals_kit\.core\.dispatch\.)?(Wrapper|Results)"),
    # What assert_connected compares is listed in its description.
    (r"py:.*", r"flask_signals_kit\.testing\.wiring\.ExpectedOptions"),
    # Hypothesis is imported for type checkers only, so its names have no module here.
    (r"py:.*", r"SearchStrategy"),
    # Type variables: S is a sender, P a payload, R a result, F any function.
    (r"py:.*", r"(flask_signals_kit(\.\w+)+|typing)\.~?[SPRF]|~?[SPRF]|Connected"),
]

# A copied example has no prompts in it.
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True

html_theme = "furo"
html_title = "flask_signals_kit"
html_static_path = ["_static"]
html_css_files = ["manual.css"]


# --- the reference -------------------------------------------------------------------------------

CALLED_BY_USERS = (
    flask_signals_kit.SignalsKit,
    flask_signals_kit.Signal,
    flask_signals_kit.Namespace,
)
"""Every other public class is made by the kit, so the reference leaves its constructor out."""


def leave_signature_out(
    app: Sphinx, what: str, name: str, thing: Any, options: object, *signature: str | None
) -> tuple[str | None, ...]:
    """Show how to make an object only where users make it."""
    return ("", None) if what == "class" and thing not in CALLED_BY_USERS else signature


def leave_parameters_out(
    app: Sphinx, what: str, name: str, thing: Any, options: object, lines: list[str]
) -> None:
    """Do the same with what a class's docstring says on the constructor's parameters."""
    if what != "class" or thing in CALLED_BY_USERS:
        return
    kept: list[str] = []
    in_field = False
    for line in lines:
        in_field = line.startswith(":param") or (in_field and line.startswith(" "))
        if not in_field:
            kept.append(line)
    lines[:] = kept


def setup(app: Sphinx) -> None:
    """Set up the hooks of autodoc."""
    # It is imported on first use, so that only type checkers find it in the module.
    flask_signals_kit.extension.CapturedSignals = flask_signals_kit.CapturedSignals
    for kind in CALLED_BY_USERS:
        # It looks the annotations of functions up, but takes those of constructors as they are.
        kind.__init__.__annotations__ = get_type_hints(kind.__init__)
    app.connect("autodoc-process-signature", leave_signature_out)
    app.connect("autodoc-process-docstring", leave_parameters_out)
