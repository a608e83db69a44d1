"""Data Docs: a page per check report and an index, by Great Expectations, without a network."""

from __future__ import annotations

import html
import re
from pathlib import Path

from great_expectations.core import ExpectationSuiteValidationResult
from great_expectations.render.renderer import ValidationResultsPageRenderer
from great_expectations.render.view import DefaultJinjaPageView

from quality.kept_pages import page_path

_REMOTE = re.compile(
    r"<script\b[^>]*\bsrc=\"https?://[^\"]*\"[^>]*>\s*</script>"
    r"|<link\b[^>]*\bhref=\"(?:https?://|\.\./)[^\"]*\"[^>]*/?>"
    r"|<img\b[^>]*\bsrc=\"https?://[^\"]*\"[^>]*/?>",
    re.S,
)
_STYLE = """<style>
body{font:15px/1.5 system-ui,sans-serif;margin:1.5rem auto;max-width:75rem;padding:0 1rem;color:#222}
table{border-collapse:collapse;width:100%;margin:.5rem 0 1.5rem}
td,th{border-bottom:1px solid #ddd;padding:.35rem .5rem;text-align:left;vertical-align:top}
.badge{background:#eef;border-radius:.25rem;padding:0 .3rem;font-family:monospace}
.badge-secondary{background:#eee}.text-success{color:#187a2f}.text-danger{color:#b3261e}.text-warning{color:#8a5a00}
.fa-check-circle:before{content:"\\2713"}.fa-times:before{content:"\\2717"}.fa-exclamation-triangle:before{content:"!"}
h1,h2,h3,h4{line-height:1.2}nav,.navbar,.modal,.card,.ge-cta-footer,footer,img{display:none}
</style>"""


def write_page(result: ExpectationSuiteValidationResult, docs: Path, mark: str = "") -> Path:
    """Render a result to ``<docs>/<suite>.html`` and renew ``<docs>/index.html``.

    The pages name no other host: Great Expectations' own link style sheets and scripts from public CDNs.

    Args:
        mark: a comment to end the page with (`quality.kept_pages`).
    """
    docs.mkdir(parents=True, exist_ok=True)
    document = ValidationResultsPageRenderer(run_info_at_end=False).render(result)
    page = DefaultJinjaPageView().render(document)
    page = _REMOTE.sub("", page).replace("</head>", f"{_STYLE}</head>", 1)
    path = page_path(docs, str(result.suite_name))
    path.write_text(f"{page}{mark}", encoding="utf-8")
    _write_index(docs)
    return path


def _write_index(docs: Path) -> None:
    rows = "".join(
        f'<tr><td><a href="{html.escape(p.name)}">{html.escape(p.stem)}</a></td></tr>'
        for p in sorted(docs.glob("*.html"))
        if p.name != "index.html"
    )
    aside = docs / ".index.html.tmp"
    aside.write_text(
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Data Docs</title>{_STYLE}</head>'
        f"<body><h1>Data Docs</h1><table><tr><th>Checked</th></tr>{rows}</table></body></html>",
        encoding="utf-8",
    )
    aside.replace(docs / "index.html")
