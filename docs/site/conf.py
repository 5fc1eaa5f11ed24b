"""Sphinx's settings for the site; ``build.py`` runs it."""

import re

import cells
import tex

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

html_theme = "furo"
html_title = "tinyshuffle"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_favicon = "static/favicon.svg"
html_copy_source = False
html_show_sourcelink = False
html_theme_options = {"navigation_with_keys": True, "top_of_page_buttons": []}
pygments_style, pygments_dark_style = "a11y-high-contrast-light", "a11y-high-contrast-dark"
suppress_warnings = ["ref.python"]  # an argument has the name of some class's attribute


def prepare(app, what, name, obj, options, lines):
    """Let |x| be an absolute value in prose, and equations be set as equations.

    Docstrings are written for readers of the source: an equation is a block of lines that is
    indented and in Unicode. What stands behind two colons is left as it is.
    """
    prepared, place = [], 0
    while place < len(lines):
        line, end = lines[place], place
        if what == "module" and not "".join(prepared[-1:]):
            while lines[end:] and (lines[end].startswith("    ") or end > place and not lines[end]):
                end += 1
        if end > place:
            block, before = lines[place:end], [line for line in prepared if line]
            if not before or not before[-1].endswith("::"):
                block = tex.block(block)
            prepared += block
            place = end
            continue
        if not line.lstrip().startswith(">>>"):
            line = re.sub(r"\|(\S|\S[^|`]*\S)\|", r"\\|\1\\|", line)
        prepared.append(line)
        place += 1
    lines[:] = prepared


def scripts(app, page, template, context, doctree):
    """Give a notebook's page what moves its sliders and runs its cells."""
    if page.startswith("notebooks/"):
        app.add_js_file("sliders.js", loading_method="defer")
        if cells.needs(page) is None:
            app.add_js_file("run.js", loading_method="defer")


def setup(app):
    """Let Sphinx call what is above."""
    app.connect("autodoc-process-docstring", prepare, priority=1)
    app.connect("html-page-context", scripts)
