"""The style sheet of plots and of a page about several runs, beside `fedemb.report.style`."""

from __future__ import annotations

import re

from fedemb.report import choices, looks
from fedemb.report.style import STYLE

_MARKS = """.axis, .tick { stroke: var(--soft); stroke-width: 1; }
.grid { stroke: var(--rule); stroke-width: 1; }
.line { fill: none; stroke-width: 2; stroke-linejoin: round; stroke-linecap: round; }
.level { stroke-dasharray: 7 5; stroke-width: 1.7; } .bound { stroke: var(--ink); }
.neutral { stroke: var(--soft); }
.shade { opacity: 0.14; }
.column { opacity: 0.8; }
.mark { stroke: var(--paper); stroke-width: 1.1; } .mark.loose { stroke-width: 1.5; }
.hit { fill: transparent; stroke: transparent; stroke-width: 14; }
circle.hit { stroke: none; }
.edge { fill: none; stroke: var(--rule); }
.name, .key { fill: var(--ink); }
"""

_PAGE = """
.plot text { font-size: 13px; }
.wide-figure { max-width: 660px; margin: 0 auto; }
.maps { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 300px), 1fr)); gap: 24px 32px; }
.maps figure { max-width: 560px; }
.point.on .mark, .point.on .column { stroke: var(--ink); stroke-width: 1.6; opacity: 1; }
.point.on .line { stroke-width: 3; } .point:hover { cursor: default; }
.tip { position: fixed; z-index: 9; max-width: min(340px, 90vw); padding: 6px 10px; border-radius: 6px;
  background: var(--ink); color: var(--paper); font-size: 0.84rem; line-height: 1.4; pointer-events: none; }
.tip[hidden] { display: none; }
.choice { margin: 0 0 12px; }
.choice > input { position: absolute; opacity: 0; width: 1px; height: 1px; }
.choice > label { display: inline-block; padding: 3px 12px; margin: 0 6px 8px 0; border: 1px solid var(--rule);
  border-radius: 999px; font-size: 0.86rem; color: var(--soft); cursor: pointer; }
.choice > input:checked + label { background: var(--ink); border-color: var(--ink); color: var(--paper); }
.choice > input:focus-visible + label { outline: 2px solid var(--first); outline-offset: 2px; }
.question { display: inline-block; min-width: 4.6em; margin-right: 8px; font-size: 0.86rem; color: var(--soft); }
.panels { margin-top: 6px; }
.runs { font-size: 0.88rem; } .runs td, .runs th { padding: 6px 14px 6px 0; white-space: nowrap; }
.runs td { text-align: right; } .runs td.act { text-align: left; }
.runs thead th { text-align: right; white-space: normal; vertical-align: bottom; }
.runs thead th:first-child, .runs thead th.act { text-align: left; }
.runs tbody tr:hover { background: var(--panel); }
.runs tbody th { color: var(--ink); }
button { font: inherit; color: inherit; background: none; border: 0; padding: 0; cursor: pointer; }
button.sort { text-align: inherit; }
button.sort::after { content: "\\a0↕"; opacity: 0.45; }
[aria-sort="ascending"] button.sort::after { content: "\\a0↑"; opacity: 1; }
[aria-sort="descending"] button.sort::after { content: "\\a0↓"; opacity: 1; }
button.copy { border: 1px solid var(--rule); border-radius: 6px; padding: 0 9px; min-width: 4.6em; }
button.copy[hidden] { display: none; }
button:hover, button.copy:hover { color: var(--first); border-color: var(--first); }
a { color: var(--first); }
.offscreen { position: fixed; top: -99px; }
.run { margin: 14px 0 22px; } .run pre { margin: 0 0 6px; } .run p { max-width: none; font-size: 0.88rem; }
.neighbours { display: grid; gap: 10px; overflow-x: auto; }
.answers { display: flex; gap: 8px; }
.tile { flex: 0 0 auto; width: 58px; text-align: center; font-size: 0.74rem; color: var(--soft); line-height: 1.3; }
.tile img { display: block; width: 58px; height: 58px; object-fit: contain; image-rendering: pixelated;
  border: 3px solid transparent; border-radius: 6px; background: var(--panel); }
.tile.query { margin-right: 10px; } .tile.query img { border-color: var(--soft); }
.tile.right img { border-color: var(--s0); } .tile.right { color: var(--s0); }
.tile.wrong img { border-color: var(--s1); border-style: dashed; } .tile.wrong { color: var(--s1); }
.left-out { color: var(--warn); }
@media (max-width: 560px) { .plot text { font-size: 15px; } .tile, .tile img { width: 46px; }
  .tile img { height: 46px; }
  .runs thead th:first-child, .runs tbody th { position: sticky; left: 0; background: var(--paper); }
  .tile.query { margin-right: 4px; } .answers { gap: 5px; }
  .act a { display: none; }
  .runs td, .runs th { padding-right: 10px; } }
@media print { .choice > label { display: none; } .choice > input:checked + label { display: inline-block;
  background: none; color: var(--ink); border: 0; padding: 0; font-weight: 600; } .choice > input { display: none; }
  .tip, .act, .runs th.act, button.sort::after { display: none; } .scroll, .neighbours { overflow: visible; }
  .runs { font-size: 7.5pt; } .runs td, .runs th { padding: 3px 8px 3px 0; }
  .runs tr { break-inside: avoid; } table.runs { break-inside: auto; }
  .charts, .maps { display: grid; grid-template-columns: 1fr 1fr; } h3 { break-after: avoid; }
  .wide-figure { max-width: 12cm; } .hypothetical { break-inside: avoid; } }
"""


def _dark(rules: str) -> str:
    return f"@media screen and (prefers-color-scheme: dark) {{ :root {{ {rules} }} }}\n"


PAGE_STYLE = (
    STYLE
    + f":root {{ {looks.colours(dark=False)} }}\n"
    + _dark(looks.colours(dark=True))
    + _MARKS
    + looks.rules()
    + choices.rules()
    + _PAGE
)
"""Of a page about several runs."""

_LIGHT = {"paper": "#ffffff", "ink": "#1c2430", "soft": "#4d5866", "rule": "#dfe3e8"}
_FONT = '13px "Helvetica Neue", Helvetica, Arial, "Liberation Sans", "DejaVu Sans", sans-serif'


def file_style() -> str:
    """Of a plot that is a file of its own: on white, each colour written out, as not every program knows variables."""
    colours = {**_LIGHT, **dict(re.findall(r"--(\w+): (#\w+);", looks.colours(dark=False)))}
    text = f"text {{ fill: {_LIGHT['soft']}; font: {_FONT}; }} .paper {{ fill: {_LIGHT['paper']}; }}\n"
    return text + re.sub(r"var\(--(\w+)\)", lambda found: colours[found[1]], _MARKS + looks.rules())
