"""How the report looks: one column, on a phone too; light and dark."""

STYLE = """
:root { color-scheme: light dark; --line: #8884; --good: #0a7a55; --bad: #b3261e; }
@media (prefers-color-scheme: dark) { :root { --good: #4fd1a1; --bad: #ff8a80; } }
* { box-sizing: border-box; }
body { margin: 0; font: 16px/1.5 system-ui, sans-serif; }
main { max-width: 62rem; margin: 0 auto; padding: 1rem; }
h1 { font-size: 1.6rem; line-height: 1.2; }
h2 { font-size: 1.2rem; margin: 0 0 .3rem; }
section { border-top: 1px solid var(--line); padding: 1.2rem 0; }
nav ol { padding-left: 1.5rem; }
img { display: block; max-width: 100%; height: auto; margin: .8rem auto;
  background: #fff; border-radius: 4px; }
table { border-collapse: collapse; width: 100%; font-size: .92rem; }
th, td { text-align: left; vertical-align: top; padding: .4rem .5rem;
  border-bottom: 1px solid var(--line); overflow-wrap: anywhere; }
.small { font-size: .8rem; opacity: .8; margin: .2rem 0; }
.sum { font-weight: 600; }
.holds { color: var(--good); font-weight: 600; font-size: .85em; white-space: nowrap; }
.fails, .stopped { color: var(--bad); font-weight: 600; }
.fails { font-size: .85em; white-space: nowrap; text-decoration: underline; }
@media (max-width: 42rem) {
  thead { position: absolute; left: -999rem; }
  table, tbody, tr, td { display: block; width: 100%; }
  tr { border: 1px solid var(--line); border-radius: 6px; margin: .6rem 0; }
  td { border: 0; padding: .3rem .6rem; }
  td::before { content: attr(data-label) ": "; font-size: .75rem; opacity: .7; }
}
"""
