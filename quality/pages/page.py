"""The frame of the built pages: static HTML without scripts, for light and dark mode, phones included."""

from __future__ import annotations

import html
from urllib.parse import quote

STYLE = """<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark"><style>
:root{color-scheme:light dark;--text:#222;--quiet:#5f6b76;--line:#d9dee3;--back:#fff;--soft:#f3f5f7;
--good:#187a2f;--warn:#8a5a00;--bad:#b3261e;--link:#1258a8;--before:#9aa5b1;--after:#1f6fb2}
@media (prefers-color-scheme:dark){:root{--text:#e4e7ea;--quiet:#9aa5b1;--line:#3a424a;--back:#15191d;
--soft:#20262c;--good:#66c47b;--warn:#e0ac4e;--bad:#ff8a80;--link:#82b7f0;--before:#78838e;--after:#6db3f2}}
body{font:15px/1.5 system-ui,sans-serif;margin:1.5rem auto;max-width:75rem;padding:0 1rem;
color:var(--text);background:var(--back)}
a{color:var(--link)}h1,h2,h3,h4{line-height:1.2}h1{font-size:1.5rem}h2{font-size:1.15rem;margin-top:2rem}
table{border-collapse:collapse;width:100%;margin:.5rem 0 1.5rem}
td,th{border-bottom:1px solid var(--line);padding:.35rem .5rem;text-align:left;vertical-align:top}
.number{text-align:right;font-variant-numeric:tabular-nums}.quiet{color:var(--quiet)}
.passed{color:var(--good)}.warns{color:var(--warn)}.blocks,.drifted{color:var(--bad)}
.status{white-space:nowrap;font-weight:600}ul{margin:.2rem 0;padding-left:1.1rem}
nav.trail{display:flex;flex-wrap:wrap;gap:.25rem 1rem}td,li,h1{overflow-wrap:anywhere}
@media (min-width:40rem){.checks{table-layout:fixed}.checks th:nth-child(1){width:6rem}
.checks th:nth-child(3){width:11rem}.checks th:nth-child(4){width:5rem}.checks th:nth-child(6){width:15rem}}
@media (max-width:40rem){body{margin:.75rem auto}thead{display:none}tr{display:block;padding:.5rem 0;
border-bottom:1px solid var(--line)}td{display:block;border:0;padding:.1rem 0;text-align:left!important}
td[data-label]:before{content:attr(data-label) " ";color:var(--quiet)}td:empty{display:none}}
</style>"""


def framed(title: str, body: str, style: str = "") -> str:
    """Return a whole page.

    Args:
        title: plain text; escaped here.
        body: HTML; already escaped.
    """
    name = html.escape(title)
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{name}</title>{STYLE}{style}'
        f"</head><body>{body}</body></html>"
    )


def link(path: str, text: str) -> str:
    """Return a link to a path relative to the page; both arguments may come from data."""
    return f'<a href="{quote(path)}">{html.escape(text)}</a>'


def asset_path(asset: str) -> str:
    """Return the path, from the root of the pages, that redirects to an asset in Dagster's UI
    (`orchestration.processes.page_server`).
    """
    return f"asset/{asset}"


def trail(*links: str) -> str:
    """Return the navigation links of a page."""
    return f'<nav class="trail">{"".join(links)}</nav>'
