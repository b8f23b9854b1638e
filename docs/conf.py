"""Sphinx makes the site from docs/*.md and from fedemb's docstrings: scripts/docs.sh."""

import sys
from importlib import metadata
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "ext"))

project = "fedemb"
author = "the fedemb authors"
release = metadata.version("fedemb")
extensions = ["myst_parser", "sphinx.ext.autodoc", "docstrings", "verb_help"]
exclude_patterns = ["_build", "ext"]

myst_heading_anchors = 3
highlight_language = "text"
default_role = "code"

autodoc_default_options = {"members": True, "show-inheritance": True}
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
add_module_names = False
python_use_unqualified_type_names = True
maximum_signature_line_length = 80
toc_object_entries_show_parents = "hide"

html_theme = "furo"
html_title = "fedemb"
html_static_path = ["static"]
html_css_files = ["fedemb.css"]
html_copy_source = False
html_show_sphinx = False
html_show_copyright = False
