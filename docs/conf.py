"""How the manual is built: python -m sphinx docs docs/_build."""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

import postoffice  # noqa: E402

project = "postoffice"
author = "the postoffice developers"
copyright = f"2026 {author}"  # noqa: A001
version = release = postoffice.__version__

extensions = []
exclude_patterns = ["_build"]
html_theme = "alabaster"  # comes with Sphinx
html_theme_options = {
    "description": "Receives mail over SMTP, keeps it in maildrops, serves it over POP3",
    "page_width": "62em",
}
html_sidebars = {"**": ["about.html", "navigation.html", "searchbox.html"]}
html_show_sourcelink = False
html_show_copyright = False
nitpicky = True
smartquotes = False
