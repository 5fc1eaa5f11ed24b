"""Sphinx's settings for the site; ``build.py`` runs it."""

import re

import tinyshuffle

project = "tinyshuffle"
author = "the tinyshuffle authors"
version = release = tinyshuffle.__version__
extensions = [
    "myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.mathjax",
    "sphinx.ext.viewcode",
]  # fmt: skip

# outputs are those that are stored: they were computed, and tests compare them
nb_execution_mode = "off"
nb_ipywidgets_js = {}
myst_enable_extensions = ["dollarmath", "html_image"]
myst_heading_anchors = 4
mathjax_path = "mathjax/tex-chtml.js"

autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
napoleon_google_docstring = False
default_role = "literal"
highlight_language = "none"
viewcode_follow_imported_members = False

html_theme = "pydata_sphinx_theme"
html_title = "tinyshuffle"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_favicon = "static/favicon.svg"
html_context = {"default_mode": "auto"}
html_copy_source = False
html_show_sourcelink = False
html_theme_options = {
    "navbar_align": "left",
    "navigation_with_keys": True,
    "show_toc_level": 2,
    "show_prev_next": True,
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": [],
    "footer_end": [],
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
}
suppress_warnings = ["ref.python"]  # an argument has the name of some class's attribute


def prepare(app, what, name, obj, options, lines):
    """Let |x| be an absolute value in prose, and let equations keep their lines.

    Docstrings are written for readers of the source: an equation is a block of lines that is
    indented. To reStructuredText that is a quotation, unless two colons stand in front.
    """
    prepared, literal, before = [], False, ""
    for line in lines:
        indented = line.startswith("    ")
        if line and not indented:
            literal = False
        if what == "module" and indented and not literal and not prepared[-1:] == [""]:
            indented = False  # it goes on with an item of a list
        if what == "module" and indented and not literal:
            if not before.endswith("::"):
                prepared += ["::", ""]
            literal = True
        if not literal and not line.lstrip().startswith(">>>"):
            line = re.sub(r"\|(\S|\S[^|`]*\S)\|", r"\\|\1\\|", line)
        prepared.append(line)
        before = line or before
    lines[:] = prepared


def setup(app):
    """Let Sphinx call what is above."""
    app.connect("autodoc-process-docstring", prepare, priority=1)
