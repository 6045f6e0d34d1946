"""Song, run and source by menu: players and pictures; under them a table of players, which needs no kernel."""

import html
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from sepkit.dsp import loudest_s
from sepkit.errors import SepkitError
from sepkit.experiments import BASE
from sepkit.reporting.player import MAX_SECONDS, player
from sepkit.reporting.rows import ordered
from sepkit.reporting.spectra import song_view
from sepkit.storage import Root

# (run, song) -> {"mixture", "<source>" (the target), "<source> estimate"}, each (channel, time)
Estimates = Callable[[str, str], Mapping[str, Any]]
STATIC_SONGS, STATIC_RUNS, STATIC_SECONDS = 2, 3, 5.0


class Chooser:
    """Displays itself: `widget` is the menus, `static_html` the static copy under them.

    Args:
        estimates: called when a run and a song are first looked at.
        runs: names; none for every scored run of the usual split that has the protocol of Base, which is first.
        seconds: length of the clips, from where the source is loudest.
    """

    def __init__(
        self,
        root: Any,
        *,
        estimates: Estimates,
        runs: Sequence[str] = (),
        sample_rate: int = 44100,
        seconds: float = MAX_SECONDS,
    ) -> None:
        self.estimates, self.sample_rate, self.seconds = estimates, sample_rate, min(seconds, MAX_SECONDS)
        self.cuts: dict[tuple[str, str], dict[str, tuple[float, dict[str, Any]]]] = {}
        scored = {run.name: run.scores() for run in Root.open(root).scored_runs()}
        first = {name: table.iloc[0] for name, table in scored.items()}
        rank = ordered({row["experiment"] for row in first.values()})
        found = sorted(scored, key=lambda name: (rank.index(first[name]["experiment"]), name))
        leader = next((name for name in found if first[name]["experiment"] == BASE), next(iter(found), ""))
        self.runs = list(runs or (name for name in found if first[name]["protocol"] == first[leader]["protocol"]))
        unknown = [name for name in self.runs if name not in scored]
        if unknown or not self.runs:
            listed = ", ".join(unknown) or "No run"
            raise SepkitError(f"{listed} is not scored under this root: nothing to choose; evaluate it first.")
        table = scored[leader].query("metric == 'sdr_bsseval' and source == 'vocals'")
        best_first = list(table.dropna(subset="value").sort_values("value", ascending=False)["track"])
        self.songs = list(dict.fromkeys([*best_first[:1], *best_first[-1:], *table["track"]]))
        held = [dict.fromkeys(scored[name]["source"]) for name in self.runs]
        self.sources = [source for source in held[0] if all(source in sources for sources in held)]

    def clips(self, run: str, song: str, source: str) -> tuple[float, dict[str, Any]]:
        """Start of the excerpt in s, and its clips: mixture, target and the run's estimate."""
        if (run, song) not in self.cuts:
            whole = self.estimates(run, song)
            there = [name for name in self.sources if {name, f"{name} estimate"} <= whole.keys()]
            self.cuts[run, song] = {name: self._cut(whole, name, run) for name in there}
        if source not in self.cuts[run, song]:
            raise SepkitError(f"{run} has no estimate of {source}; choose another source.")
        return self.cuts[run, song][source]

    def _cut(self, whole: Mapping[str, Any], source: str, run: str) -> tuple[float, dict[str, Any]]:
        start = loudest_s(whole[source], self.sample_rate, self.seconds)
        first = round(start * self.sample_rate)
        part = slice(first, first + round(self.seconds * self.sample_rate))
        names = {"mixture": "mixture", f"{source}, target": source, f"{source}, {run}": f"{source} estimate"}
        # copies: a view would keep the whole song in memory
        return start, {label: np.array(whole[key][..., part]) for label, key in names.items()}

    def static_html(self) -> str:
        """A table of players: for two songs the mixture, the target and three runs."""
        parts, source = [], self.sources[0]
        for song in self.songs[:STATIC_SONGS]:
            start, shown = 0.0, dict[str, Any]()
            for run in self.runs[:STATIC_RUNS]:
                try:
                    start, clips = self.clips(run, song, source)
                    shown |= clips
                except SepkitError as error:
                    parts.append(f"<p>{html.escape(f'{song}: {error}')}</p>")
            if shown:
                skip = loudest_s(shown[f"{source}, target"], self.sample_rate, STATIC_SECONDS)
                cut = {name: clip[..., round(skip * self.sample_rate) :] for name, clip in shown.items()}
                title = f"{song}, {source}, from {start + skip:.0f} s"
                parts.append(player(cut, self.sample_rate, seconds=STATIC_SECONDS, title=title).data)
        return "<br>".join(parts)

    def widget(self) -> Any:
        """Three menus over a player and a picture; every choice replaces both."""
        import ipywidgets  # slow to import

        choices = {"song": self.songs, "run": self.runs, "source": self.sources}
        menus = {name: ipywidgets.Dropdown(options=of, description=name) for name, of in choices.items()}
        sound, picture = ipywidgets.HTML(), ipywidgets.Image(format="png")

        def update(_: Any = None) -> None:
            song, run, source = (menu.value for menu in menus.values())
            try:
                start, clips = self.clips(run, song, source)
                sound.value = player(clips, self.sample_rate, title=f"{song}, from {start:.0f} s").data
                picture.value = song_view(clips, self.sample_rate, start_s=start)._repr_png_()
            except SepkitError as error:
                sound.value, picture.value = html.escape(str(error)), b""

        for menu in menus.values():
            menu.observe(update, names="value")
        update()
        return ipywidgets.VBox([ipywidgets.HBox(list(menus.values())), sound, picture])

    def _ipython_display_(self) -> None:
        from IPython.display import HTML, display

        display(self.widget())
        display(HTML(f"<p>The same without menus, for when no kernel runs:</p>{self.static_html()}"))
