"""The style sheet of a report: light and dark, screen, phone and paper; system fonts, no downloads."""

_MARKS = """.grid { stroke: var(--rule); stroke-width: 1; }
.line { fill: none; stroke-width: 2.2; stroke-linejoin: round; stroke-linecap: round; }
.line.first { stroke: var(--first); } .line.second { stroke: var(--second); stroke-dasharray: 6 4; }
.line.third { stroke: var(--third); stroke-dasharray: 2 4; }
.line.fourth { stroke: var(--fourth); stroke-dasharray: 10 3; }
.dot.first { fill: var(--first); } .dot.second { fill: var(--second); }
.dot.third { fill: var(--third); } .dot.fourth { fill: var(--fourth); }
.dot { stroke: transparent; stroke-width: 12; }
.band { fill: var(--first); opacity: 0.16; }
.bar.first { fill: var(--first); } .bar.second { fill: var(--second); }
.bar.rest { fill: var(--soft); }
"""

STYLE = (
    """
:root { color-scheme: light dark; --paper: #fff; --panel: #f6f7f9; --ink: #1c2430; --soft: #5b6675; --rule: #dfe3e8;
  --first: #0b62b0; --second: #c2570c; --third: #2f7d32; --fourth: #7b3fa0; --warn: #a3260f;
  --warn-paper: #fdf1ee; }
@media (prefers-color-scheme: dark) { :root { --paper: #14181e; --panel: #1c222a; --ink: #e4e8ee; --soft: #9aa6b5;
  --rule: #323b47; --first: #6cb2f7; --second: #f0a15e; --third: #7ccf80; --fourth: #c79be6; --warn: #ff9d87;
  --warn-paper: #2d1d1a; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 16px/1.55 system-ui, -apple-system, "Segoe UI",
  Roboto, "Noto Sans", "DejaVu Sans", sans-serif; font-variant-numeric: tabular-nums; }
main { max-width: 1060px; margin: 0 auto; padding: 40px 24px 64px; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 4px; letter-spacing: -0.01em; overflow-wrap: anywhere; }
h2 { font-size: 1.2rem; margin: 44px 0 12px; padding-top: 14px; border-top: 1px solid var(--rule); }
h3 { font-size: 0.95rem; margin: 0 0 8px; font-weight: 600; overflow-wrap: anywhere; }
p { margin: 0 0 12px; max-width: 72ch; }
.kicker, .note, figcaption, dt { color: var(--soft); }
.kicker { margin: 0; font-size: 0.95rem; }
.note, figcaption { font-size: 0.88rem; }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); gap: 12px; margin: 26px 0 20px; }
.card { background: var(--panel); border-radius: 8px; padding: 14px 16px; }
.card b { display: block; font-size: 1.5rem; line-height: 1.25; font-weight: 650; white-space: nowrap; }
.card span { color: var(--soft); font-size: 0.85rem; }
.card.key { grid-column: span 2; }
.claim { border-left: 4px solid var(--first); background: var(--panel); padding: 14px 18px; margin: 0 0 12px;
  border-radius: 0 8px 8px 0; }
.claim p { max-width: none; margin: 0; }
.claim.none { border-color: var(--warn); background: var(--warn-paper); }
.card.none b { color: var(--warn); }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 400px), 1fr)); gap: 24px 32px; }
figure { margin: 0; min-width: 0; break-inside: avoid; }
svg { display: block; width: 100%; height: auto; }
svg text { fill: var(--soft); font-size: 13px; }
"""
    + _MARKS
    + """.faint { fill-opacity: 0; } .dot:hover { fill-opacity: 1; }
.legend { display: flex; flex-wrap: wrap; gap: 4px 20px; margin: 0 0 14px; padding: 0; list-style: none;
  font-size: 0.88rem; color: var(--soft); }
.legend li::before { content: ""; display: inline-block; width: 24px; margin-right: 8px; vertical-align: middle;
  border-top: 3px solid var(--first); }
.scroll + .note { margin-top: 10px; }
.legend .second::before { border-top: 3px dashed var(--second); }
.legend .band-key::before { border-top-width: 12px; opacity: 0.25; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: 0.93rem; }
th, td { text-align: left; padding: 7px 14px 7px 0; border-bottom: 1px solid var(--rule); vertical-align: top; }
thead th { color: var(--soft); font-weight: 600; font-size: 0.85rem; white-space: nowrap; }
tbody th { font-weight: 400; color: var(--soft); }
.numbers { max-width: 640px; }
.numbers td, .numbers thead th + th { text-align: right; padding-right: 0; padding-left: 18px; white-space: nowrap; }
.wide td, .wide thead th { text-align: right; padding: 7px 0 7px 18px; white-space: nowrap; }
.wide td:first-child, .wide th:first-child { padding-left: 0; text-align: left; }
.columns { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 400px), 1fr)); gap: 20px 40px; }
.stack > div + div { margin-top: 26px; }
.pairs td { overflow-wrap: anywhere; } .pairs th { width: 46%; }
.hypothetical { border: 1px dashed var(--soft); border-radius: 8px; padding: 4px 18px 14px; margin-top: 44px; }
.hypothetical h2 { border: 0; margin: 10px 0 8px; padding: 0; }
pre { background: var(--panel); border-radius: 8px; padding: 12px 16px; margin: 0 0 12px; font-size: 0.86rem;
  line-height: 1.5; white-space: pre-wrap; overflow-wrap: anywhere; font-family: ui-monospace, SFMono-Regular, Menlo,
  Consolas, "DejaVu Sans Mono", monospace; }
pre.command { user-select: all; }
summary { cursor: pointer; color: var(--first); margin-bottom: 10px; }
footer { margin-top: 48px; color: var(--soft); font-size: 0.85rem; }
@media (max-width: 560px) { main { padding: 24px 16px 40px; } h1 { font-size: 1.5rem; } svg text { font-size: 15px; }
  .cards { grid-template-columns: 1fr 1fr; } .card { padding: 10px 12px; } .card b { font-size: 1.25rem; } }
@media print { :root { color-scheme: light; --paper: #fff; --panel: #f6f7f9; --ink: #000; --soft: #444; --rule: #ccc;
  --first: #0b62b0; --second: #c2570c; --third: #2f7d32; --fourth: #7b3fa0; --warn: #a3260f;
  --warn-paper: #fff; } main { max-width: none; padding: 0; }
  body { font-size: 10.5pt; } h2 { break-after: avoid; margin-top: 24px; } table, .claim, .card { break-inside: avoid; }
  .charts { grid-template-columns: 1fr 1fr; } details { display: none; } }
"""
)

FIGURE_STYLE = (
    """
:root { --paper: #fff; --ink: #1c2430; --soft: #5b6675; --rule: #dfe3e8;
  --first: #0b62b0; --second: #c2570c; --third: #2f7d32; --fourth: #7b3fa0; }
@media (prefers-color-scheme: dark) { :root { --paper: #14181e; --ink: #e4e8ee; --soft: #9aa6b5; --rule: #323b47;
  --first: #6cb2f7; --second: #f0a15e; --third: #7ccf80; --fourth: #c79be6; } }
text { fill: var(--soft); font: 12px system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", "DejaVu Sans",
  sans-serif; }
.paper { fill: var(--paper); }
.title { fill: var(--ink); font-weight: 600; } .end { text-anchor: end; }
"""
    + _MARKS
)
"""The same for a chart that is a file of its own."""
