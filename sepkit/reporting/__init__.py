"""What was measured, for people: scoreboard, figures, the listening player, the milestone report.

Everything here reads files under the root (scores.csv, history.csv, status.json, budget.csv) and
calls the statistics; no network is loaded, nothing is trained or scored.

| module | what for |
|---|---|
| `scoreboard` | one table of all finished runs: `sections` of `rows`; `tables` gives HTML, Markdown and text |
| `lessons` | sentences computed from it |
| `figures` | matplotlib figures, each returned and never shown; `curves`, `spectra` and `canvas` belong to it |
| `player` | audio in a notebook or a page, one gain for all clips |
| `chooser` | song, run and source by menu, and a static copy of the players |
| `report` | `report/milestone2.html`, one file; `settings`, `songs` and `words` have parts of it |
"""
