"""The look of the receipt page: screen, narrow screen, dark, paper.

Charter: text only, put into the page as it is. System fonts, no images: nothing is loaded from anywhere.
"""

from __future__ import annotations

from typing import Final

STYLE: Final = """
:root { --ink: #17202a; --soft: #566573; --line: #d5d8dc; --paper: #ffffff; --ground: #eef1f4; --mark: #0b6e4f;
  --warn: #fdf2d8; --warn-line: #d4a017; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e8ebee; --soft: #a5b0ba; --line: #3a444e; --paper: #1b2229; --ground: #11161b; --mark: #58d3a5;
    --warn: #332a12; --warn-line: #d4a017; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--ground); color: var(--ink);
  font: 1rem/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Liberation Sans", sans-serif; }
main { max-width: 54rem; margin: 2rem auto; padding: 2rem 2.5rem; background: var(--paper);
  border: 1px solid var(--line); border-radius: .5rem; overflow-wrap: anywhere; }
h1 { font-size: 1.6rem; margin: 0 0 .25rem; }
h2 { font-size: 1.05rem; margin: 2rem 0 .5rem; padding-bottom: .25rem; border-bottom: 1px solid var(--line); }
p { margin: .25rem 0; }
header p, .note, dt { color: var(--soft); }
.note { font-size: .875rem; margin-top: .5rem; }
.headline { display: grid; grid-template-columns: repeat(3, 1fr); gap: 1rem; margin: 1.5rem 0; }
.headline div { padding: .75rem 1rem; border: 1px solid var(--line); border-left: .25rem solid var(--mark);
  border-radius: .25rem; }
.headline dt { font-size: .875rem; }
.headline dd { margin: 0; font-size: 1.35rem; font-weight: 600; font-variant-numeric: tabular-nums; }
.notices { list-style: none; margin: 1rem 0; padding: .75rem 1rem; background: var(--warn);
  border-left: .25rem solid var(--warn-line); border-radius: .25rem; }
.pairs { margin: 0; }
.pairs div { display: grid; grid-template-columns: minmax(9rem, 15rem) 1fr; gap: 1rem; padding: .15rem 0; }
.pairs dd { margin: 0; font-variant-numeric: tabular-nums; }
.identity dd { font-family: ui-monospace, "Liberation Mono", monospace; font-size: .875rem; }
ul { margin: .25rem 0; padding-left: 1.25rem; }
table { width: 100%; border-collapse: collapse; font-variant-numeric: tabular-nums; overflow-wrap: normal; }
caption { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); }
th, td { padding: .35rem .75rem .35rem 0; text-align: left; vertical-align: top; font-weight: inherit; }
thead th { color: var(--soft); font-size: .875rem; border-bottom: 1px solid var(--line); }
tbody tr + tr > * { border-top: 1px solid var(--line); }
.number { text-align: right; white-space: nowrap; }
tr > :last-child { padding-right: 0; }
tfoot tr > * { border-top: 2px solid var(--ink); font-weight: 700; }
tfoot td[data-name="How much"] { font-weight: 400; color: var(--soft); }
.periods table { font-size: .875rem; }
details { margin-top: 2rem; border-top: 1px solid var(--line); padding-top: 1rem; }
summary { cursor: pointer; color: var(--mark); }
pre { white-space: pre-wrap; overflow-wrap: anywhere; font: .75rem/1.4 ui-monospace, "Liberation Mono", monospace;
  padding: .75rem; background: var(--ground); border-radius: .25rem; }
a { color: var(--mark); }
a:focus-visible, summary:focus-visible { outline: 2px solid var(--mark); outline-offset: 2px; }
@media screen and (max-width: 44rem) {
  main { margin: 0; padding: 1.25rem; border: 0; border-radius: 0; }
  .headline { grid-template-columns: 1fr; gap: .5rem; }
  .pairs div { grid-template-columns: 1fr; gap: 0; padding: .3rem 0; }
  table, tbody, tfoot, tr, th, td { display: block; }
  thead { display: none; }
  tr { padding: .5rem 0; }
  tbody tr + tr { border-top: 1px solid var(--line); }
  tbody tr + tr > * { border-top: 0; }
  tfoot tr { border-top: 2px solid var(--ink); }
  tfoot tr > * { border-top: 0; }
  th, td, tr > :last-child { padding: .1rem 0; }
  td, .number { display: flex; justify-content: space-between; gap: 1rem; text-align: right; white-space: normal; }
  td::before { content: attr(data-name); color: var(--soft); font-weight: 400; text-align: left; }
  td:empty { display: none; }
  tbody th { font-weight: 600; overflow-wrap: break-word; } }
@media print {
  :root { --ink: #000; --soft: #333; --line: #999; --paper: #fff; --ground: #fff; --mark: #000; --warn: #fff;
    --warn-line: #000; }
  @page { margin: 15mm; }
  body { font-size: 10pt; background: #fff; }
  main { max-width: none; margin: 0; padding: 0; border: 0; }
  .headline dd { font-size: 12pt; white-space: nowrap; }
  h2 { margin-top: 1.1rem; break-after: avoid; }
  tr, .pairs div, .headline { break-inside: avoid; }
  details { display: none; } }
"""
