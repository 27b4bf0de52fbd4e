"""How Sphinx turns the notebooks and the README into pages; tools/site.py calls it."""

import json
from base64 import b64decode
from hashlib import sha256
from operator import methodcaller
from pathlib import Path

from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml

project = "From raw pictures to explanations you can check"
extensions = ["myst_nb"]

nb_execution_mode = "off"
nb_render_markdown_format = "myst"  # tables, too
nb_mime_priority_overrides = [("html", "application/vnd.jupyter.widget-view+json", None)]
nb_ipywidgets_js = {}  # a view without its kernel is an empty box
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 4
myst_heading_slug_func = methodcaller("replace", " ", "-")  # the anchors that Jupyter gives

html_theme = "furo"
html_title = project
html_static_path = ["style.css"]
html_css_files = ["style.css"]
html_copy_source = False
html_show_sourcelink = False
html_show_copyright = False
html_use_index = False
html_math_renderer = "mathml"


def formula(translator, node):
    """Write a formula as MathML, which browsers draw themselves: no script, no font to fetch."""
    block = isinstance(node, nodes.math_block)
    translator.body.append(tex2mathml(node.astext(), as_block=block))
    raise nodes.SkipNode


def describe_figures(app, doctree):
    """Figures get the alternative text that `plots.show` stored with them; myst-nb leaves it out.

    myst-nb names the file of a figure by its SHA-256.
    """
    path = Path(app.env.doc2path(app.env.docname))
    if path.suffix != ".ipynb":
        return
    texts = {}
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        for output in cell.get("outputs", []):
            for kind, about in output.get("metadata", {}).items():
                if kind in ("image/png", "image/jpeg") and "alt" in about:
                    content = b64decode("".join(output["data"][kind]))
                    texts[sha256(content).hexdigest()] = about["alt"]
    for image in doctree.findall(nodes.image):
        if text := texts.get(Path(image["uri"]).stem):
            image["alt"] = text


def words_for_badges(app, doctree):
    """A button drawn by another host becomes its alternative text; style.css draws the button."""
    for image in list(doctree.findall(nodes.image)):
        if "://" in image["uri"]:
            image.replace_self(nodes.inline("", image["alt"], classes=["badge"]))


def no_icon(app, pagename, templatename, context, doctree):
    """Browsers ask for /favicon.ico, and log an error, unless the page names an icon."""
    context["metatags"] = context.get("metatags", "") + '<link rel="icon" href="data:,">'


def setup(app):
    app.add_html_math_renderer("mathml", (formula, None), (formula, None))
    app.connect("doctree-read", describe_figures)
    app.connect("doctree-read", words_for_badges)
    app.connect("html-page-context", no_icon)
