"""Data Docs: a page per check report, rendered by Great Expectations without network access."""

from __future__ import annotations

import html
import re
from pathlib import Path

from great_expectations.core import ExpectationSuiteValidationResult
from great_expectations.render.renderer import ValidationResultsPageRenderer
from great_expectations.render.view import DefaultJinjaPageView

from feature_repo.files import write_file
from quality.pages.check_runs import CheckRun, save_run
from quality.pages.docs_index import header, write_history, write_index
from quality.pages.kept_pages import page_path
from quality.pages.page import STYLE

_REMOTE = re.compile(
    r"<script\b[^>]*\bsrc=\"https?://[^\"]*\"[^>]*>\s*</script>"
    r"|<link\b[^>]*\bhref=\"(?:https?://|\.\./)[^\"]*\"[^>]*/?>"
    r"|<img\b[^>]*\bsrc=\"https?://[^\"]*\"[^>]*/?>",
    re.S,
)
_ELSEWHERE = re.compile(r' href="(?:\.\./|https?://)[^"]*"')
"""Links to parts of Great Expectations' site that do not exist here, and to its makers."""
_TITLE = re.compile(r"<title>.*?</title>", re.S)
_BODY = re.compile(r"<body[^>]*>")
_STYLE = f"""{STYLE}<style>
.badge{{background:var(--soft);border-radius:.25rem;padding:0 .3rem;font-family:monospace}}
.text-success{{color:var(--good)}}.text-danger{{color:var(--bad)}}.text-warning{{color:var(--warn)}}
.fa-check-circle:before{{content:"\\2713"}}.fa-times:before{{content:"\\2717"}}
.fa-exclamation-triangle:before{{content:"!"}}
h5,h6{{font-size:1rem;margin:1rem 0 .25rem}}
.navbar,a[data-toggle],.modal,.card,.ge-cta-footer,footer,img,.lead{{display:none}}
</style>"""


def write_page(result: ExpectationSuiteValidationResult, docs: Path, run: CheckRun, mark: str = "") -> Path:
    """Render a result to ``<docs>/<suite>.html``, save it as a run of the suite, and update the indexes.

    The pages refer to no other host; Great Expectations' own pages load style sheets and scripts from CDNs.

    Args:
        run: the same result, for the indexes.
        mark: a comment at the end of the page (`quality.pages.kept_pages`).
    """
    document = ValidationResultsPageRenderer(run_info_at_end=False).render(result)
    page = _ELSEWHERE.sub("", _REMOTE.sub("", DefaultJinjaPageView().render(document)))
    path = page_path(docs, str(result.suite_name))
    save_run(docs, path.stem, run, _titled(page, run, header(docs, path.stem, run, "../../")))
    write_file(path, f"{_titled(page, run, header(docs, path.stem, run, ''))}{mark}", parents=True)
    write_history(docs, path.stem)
    write_index(docs)
    return path


def _titled(page: str, run: CheckRun, top: str) -> str:
    """Return the page with our style and title, and a header that says what was checked."""
    page = _TITLE.sub(lambda _: f"<title>{html.escape(run.title)}</title>", page, count=1)
    page = _BODY.sub(lambda found: f"{found.group()}{top}", page, count=1)
    return page.replace("</head>", f"{_STYLE}</head>", 1)
