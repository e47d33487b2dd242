"""How Sphinx builds the manual: offline, with every warning an error."""

import sys
from importlib.metadata import version as version_of

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

autodoc_default_options = {"members": True, "show-inheritance": True}
autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented_params"
autodoc_preserve_defaults = True
python_use_unqualified_type_names = True

# A reference that leads nowhere is an error, unless it names something of another project: the
# build asks no other site for its inventory. A name of the kit's own is never excused.
nitpicky = True
elsewhere = "|".join(sorted({*sys.stdlib_module_names, "blinker", "click", "flask", "werkzeug"}))
nitpick_ignore_regex = [(r"py:.*", rf"({elsewhere})(\.\w+)*")]

# A copied example has no prompts in it.
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True

html_theme = "furo"
html_title = "flask_signals_kit"
