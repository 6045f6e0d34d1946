"""Runs against their base in one table, beside what the student, the plan and the literature expect."""

import html
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from sepkit.evaluation.statistics import Comparison, compare_all
from sepkit.experiments import BASE, MENU
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
        return said + [f"{test.mark} {test.sentence} {test.method_sentence}" for test in self.tests.values()]

    def __repr__(self) -> str:
        """For a terminal and headless notebooks."""
        return "\n".join([self.table.iloc[:, :-2].to_string(), *self.lines] if len(self.table) else self.lines)

    def _repr_html_(self) -> str:
        details = "".join(f"<p>{html.escape(line)}</p>" for line in self.lines)
        for test in self.tests.values():
            facts = pd.DataFrame(test.details.items(), columns=[test.run, ""])
            details += facts.to_html(index=False, border=0)
        return (
            f"{self.table.to_html(border=0)}<details><summary>the sentences and the whole statistics</summary>"
            f"{details}</details>"
        )


def outcome(runs: Run | Iterable[Run], base: Run, metric: str = "sdr_bsseval", source: str = "vocals") -> Outcome:
    """Every run against `base`, corrected by Holm, beside the student's, the plan's and the literature's expectation."""
    by_name = {run.name: run for run in ([runs] if isinstance(runs, Run) else runs)}
    sides = {name: run.scores() for name, run in by_name.items()}
    tests, refused = compare_all(sides, base.scores(), metric=metric, source=source)
    guessed, rows = predictions(base.root), {}
    for name, test in tests.items():
        experiment = by_name[name].config["experiment"]
        entry, p = MENU.get(experiment), test.p_final
        rows[name] = {
            "you": number(guessed.get(experiment, {}).get("gain_db"), "+.1f"),
            "gain, dB": f"{test.median_difference:+.2f}", "95 % interval": interval(*test.interval, "+.2f") or NONE,
            "p": number(p, ".3f" if p is None or p >= 0.001 else ".0e"), "mark": test.mark,
            "plan": entry.plan if entry else NONE, "literature": entry.literature if entry else NONE,
        }  # fmt: skip
    table = pd.DataFrame.from_dict(rows, orient="index").rename_axis(f"against {base.name}, {metric} of {source}")
    return Outcome(table, tests, refused, base.name)
