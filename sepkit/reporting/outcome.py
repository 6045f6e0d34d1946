"""Runs against their base in one table, beside what the student, the plan and the literature expect."""

import html
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from sepkit.evaluation.statistics import Comparison, compare_all, show_p
from sepkit.experiments import BASE, entry_of
from sepkit.reporting.tables import NONE, interval, number
from sepkit.storage import Root, Run, read_json

PREDICTIONS = "predictions.json"  # under the root: {experiment: {"gain_db", "why"}}, what the student wrote down first


def predictions(root: Root) -> dict[str, dict[str, Any]]:
    file = root.path / PREDICTIONS
    return read_json(file, "the student's predictions") if file.exists() else {}


@dataclass(frozen=True)
class Outcome:
    """Runs against a base: one table, and all sentences and details of the tests, which a notebook opens by a click."""

    table: pd.DataFrame
    tests: Mapping[str, Comparison]
    refused: Mapping[str, str] = field(default_factory=dict)
    base: str = BASE

    @property
    def lines(self) -> list[str]:
        """A line a run: its mark, difference, interval and verdict, and what is known of the methods."""
        said = [f"{name} is not compared with {self.base}: {why}" for name, why in self.refused.items()]
        return said + [" ".join((of.mark, of.sentence, of.method_sentence, *of.notes)) for of in self.tests.values()]

    def __repr__(self) -> str:
        """For a terminal and headless notebooks."""
        return "\n".join([self.table.iloc[:, :-2].to_string(), *self.lines] if len(self.table) else self.lines)

    def _repr_html_(self) -> str:
        details = "".join(f"<p>{html.escape(line)}</p>" for line in self.lines)
        for test in self.tests.values():
            details += _html(pd.DataFrame(test.details.items(), columns=[test.run, ""]), index=False)
        title, table = html.escape(str(self.table.index.name)), self.table.rename_axis(None)
        return f"<b>{title}</b>{_html(table)}<details><summary>sentences and the whole statistics</summary>{details}</details>"


def _html(table: pd.DataFrame, index: bool = True) -> str:
    left = "text-align:left"  # over a notebook's own style
    cells = table.to_html(border=0, index=index).replace("<td>", f'<td style="{left}">')
    return cells.replace("<th>", f'<th style="{left};white-space:nowrap">')


def outcome(runs: Run | Iterable[Run], base: Run, metric: str = "sdr_bsseval", source: str = "vocals") -> Outcome:
    """Every run against `base`, corrected by Holm, beside the student's, the plan's and the literature's expectation."""
    by_name = {run.name: run for run in ([runs] if isinstance(runs, Run) else runs)}
    sides = {name: run.scores() for name, run in by_name.items()}
    tests, refused = compare_all(sides, base.scores(), metric=metric, source=source)
    guessed = predictions(base.root) if (metric, source) == ("sdr_bsseval", "vocals") else {}
    against, rows = base.config["experiment"], {}
    for name, test in tests.items():
        experiment = by_name[name].config["experiment"]
        entry = entry_of(by_name[name].config)
        guess = guessed.get(experiment, {}) if BASE in (against, experiment) else {}  # it is of the gain over Base
        rows[name] = {
            "you": number(guess.get("gain_db"), "+.1f"), "gain, dB": f"{test.median_difference:+.2f}",
            "95 % interval": (interval(*test.interval, "+.2f") or NONE).replace(" ", "\N{NO-BREAK SPACE}"),
            "p": show_p(test.p_final), "mark": test.mark,
            "plan": entry.plan, "literature": entry.literature,
        }  # fmt: skip
    table = pd.DataFrame.from_dict(rows, orient="index").rename_axis(f"Against {base.name}, {metric} of {source}")
    return Outcome(table, tests, refused, base.name)
