"""What was measured, for people: scoreboard, figures, the listening player, the milestone report.

Everything here reads files under the root (scores.csv, history.csv, status.json, budget.csv) and
computes nothing that it does not find there.

| module | what for |
|---|---|
| `scoreboard` | one table of all finished runs; `tables` writes it as HTML, Markdown and text |
| `figures` | matplotlib figures, each returned and never shown |
| `player` | audio in a notebook or a page, one gain for all clips |
| `chooser` | song, run and source by menu, with a twin that needs no kernel |
| `report` | `report/milestone2.html`, one file |
"""
