"""A chooser of song, run and source for notebooks, and a static copy of its players, which needs no kernel.

Heading, player and picture of one choice are one piece of HTML, replaced at once. When a menu changes, the browser empties
that place before it asks the kernel, so nothing of another run is seen or heard beside the new choice; until the page is
there, a bar says that it is being made. One thread makes pages, and a choice that is not the newest any more is dropped.
The player takes over position, loop and row from the one before, by its title, which names song and source alone.

The easy and the hard song come first, from the excerpts that runs keep; test songs are separated when they are chosen.
"""

import base64
import html
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from threading import Lock
from typing import Any

import numpy as np

from sepkit.dsp import loudest_s
from sepkit.errors import SepkitError
from sepkit.evaluation.statistics import summary
from sepkit.experiments import BASE, REFERENCES
from sepkit.reporting.figures import song_view
from sepkit.reporting.player import player
from sepkit.reporting.rows import ordered
from sepkit.storage import Root
from sepkit.storage.excerpts import SECONDS, Excerpt, easy_and_hard, kept

# (run, test song) -> {"mixture", "<source>" (the target), "<source> estimate"}, each (channel, time)
Estimates = Callable[[str, str], Mapping[str, Any]]
Choice = tuple[str, str, str]  # song, run, source
STATIC_SONGS, STATIC_RUNS, STATIC_SECONDS = 2, 3, 5.0
EXCERPTS, PAGES = 8, 64  # that are remembered: 14 MB and 0.5 MB each
BAR = '<progress aria-label="busy"></progress>'
BUSY = f'<div class="sepkit-chosen" aria-busy="true"><h4 role="status">being made …</h4>{BAR}</div>'
# In HTML that a widget shows no script runs, but a picture's onload does. It shows the page, and starts the player's script,
# if the menus say what the page is of; they may have changed while it was on its way, and may come back to it.
LIVE = """
const holder = this.parentElement, all = this.closest('.sepkit-chooser');
const show = () => {
  const menus = [...all.querySelectorAll('select')].map((menu) => menu.selectedOptions[0].textContent);
  const fits = menus.join('|').replaceAll('\\u00a0', ' ') === holder.dataset.choice;
  const parts = holder.querySelectorAll('template'), page = parts[+fits].content.cloneNode(true);
  for (const old of page.querySelectorAll('script')) {
    const script = document.createElement('script');
    script.textContent = old.textContent;
    old.replaceWith(script);
  }
  holder.querySelector('.sepkit-chosen').replaceWith(page);
};
all.onchange = (event) => event.target.matches('select') && holder.isConnected && show();
show();
"""
DOT = "data:image/gif;base64,R0lGODlhAQABAAAAACH5BAEKAAEALAAAAAABAAEAAAICTAEAOw=="


class Chooser:
    """Displays itself: `widget` is the menus, `static_html` the static copy under them.

    Args:
        estimates: called when a run and a test song are first looked at.
        runs: names; none for every scored run of the usual split that has the protocol of Base, which is first.
        sample_rate: Hz, of `estimates`.
    """

    def __init__(self, root: Any, *, estimates: Estimates, runs: Sequence[str] = (), sample_rate: int = 44100) -> None:
        self.root, self.estimates, self.sample_rate = Root.open(root), estimates, sample_rate
        scored = {run.name: run.scores() for run in self.root.scored_runs()}
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
        validation = dict(zip(easy_and_hard(self.root) or (), ("easy", "hard"), strict=False))
        songs = dict.fromkeys([*validation, *best_first[:1], *best_first[-1:], *table["track"]])
        self.songs = {song: f"{song} ({validation[song]})" if song in validation else song for song in songs}
        self.validation = set(validation)
        held = [dict.fromkeys(scored[name]["source"]) for name in self.runs]
        self.sources = [source for source in held[0] if all(source in sources for sources in held)]
        trained = [name for name in self.runs if name not in REFERENCES]
        best = sorted(trained, key=lambda name: (name != leader, -(summary(scored[name])["median"] or 0), name))
        self.shown = (best or self.runs)[:STATIC_RUNS]  # in the static copy
        self.beside = ThreadPoolExecutor(1, "picture")
        self.excerpt, self.page = lru_cache(EXCERPTS)(self._excerpt), lru_cache(PAGES)(self._page)

    def _excerpt(self, run: str, song: str) -> Excerpt:
        """The loudest 8 s of the vocals: as the run keeps it, or cut out of the estimate of the whole song."""
        if song in self.validation:
            if excerpt := kept(self.root.run(run), song):
                return excerpt
            raise SepkitError(f"{run} keeps no excerpt of {song}; make it with sepkit.excerpts.")
        whole, rate = self.estimates(run, song), self.sample_rate
        start = loudest_s(whole.get("vocals", whole["mixture"]), rate, SECONDS)
        part = slice(round(start * rate), round((start + SECONDS) * rate))
        # copies: a view would keep the whole song in memory
        return Excerpt(song, start, rate, {name: np.array(clip[..., part]) for name, clip in whole.items()})

    def clips(self, song: str, run: str, source: str) -> dict[str, Any]:
        """The mixture, the target and the estimate of `run`, each (channel, time)."""
        clips, names = self.excerpt(run, song).clips, ("mixture", source, f"{source} estimate")
        if missing := [name for name in names if name not in clips]:
            raise SepkitError(f"{run} has no {missing[-1]} of {song}; choose another source.")
        return dict(zip(("mixture", "target", "estimate"), (clips[name] for name in names), strict=True))

    def heading(self, song: str, run: str, source: str) -> str:
        return html.escape(f"{run} · {self.songs[song]} · {source}")

    def _page(self, song: str, run: str, source: str) -> str:
        """Heading, player and picture of one choice; or the reason why there are none."""
        heading = self.heading(song, run, source)
        try:
            clips, excerpt = self.clips(song, run, source), self.excerpt(run, song)
            target, estimate = f"{source}, target", f"{source}, {run}"
            heard = {"mixture": clips["mixture"], target: clips["target"], estimate: clips["estimate"]}
            title = f"{self.songs[song]}, {source}, from {excerpt.start_s:.0f} s"
            rate, start_s = excerpt.sample_rate, excerpt.start_s
            sight = self.beside.submit(lambda: song_view(clips, rate, start_s=start_s)._repr_png_())
            sound = player(heard, rate, title=title, error=(estimate, target)).data
            picture = sight.result()
        except SepkitError as error:
            return f'<div class="sepkit-chosen"><h4 role="status">{heading}</h4><p>{html.escape(str(error))}</p></div>'
        address, about = base64.b64encode(picture).decode("ascii"), f"waveforms and mel spectrograms, {heading}"
        image = f'<img alt="{about}" style="max-width:100%" src="data:image/png;base64,{address}">'
        return f'<div class="sepkit-chosen"><h4 role="status">{heading}</h4>{sound}{image}</div>'

    def held(self, choice: Choice, page: str) -> str:
        """The page for a widget, which shows it while its menus say what it is of."""
        said = html.escape("|".join((self.songs[choice[0]], *choice[1:])))
        live = f'<img alt="" src="{DOT}" onload="{html.escape(LIVE)}">'
        return f'<div data-choice="{said}"><template>{BUSY}</template><template>{page}</template>{BUSY}{live}</div>'

    def static_html(self) -> str:
        """A player for each of two songs: the mixture, the target, and Base beside the best other runs."""
        parts, source = [], self.sources[0]
        for song in list(self.songs)[:STATIC_SONGS]:
            heard, errors = dict[str, Any](), []
            for run in self.shown:
                try:
                    clips, excerpt = self.clips(song, run, source), self.excerpt(run, song)
                    target, estimate = f"{source}, target", f"{source}, {run}"
                    heard |= {"mixture": clips["mixture"], target: clips["target"], estimate: clips["estimate"]}
                    errors.append((estimate, target))
                except SepkitError as error:
                    parts.append(f"<p>{html.escape(f'{song}: {error}')}</p>")
            if heard:
                rate = excerpt.sample_rate
                skip = loudest_s(heard[f"{source}, target"], rate, STATIC_SECONDS)
                cut = {name: clip[..., round(skip * rate) :] for name, clip in heard.items()}
                title = f"{self.songs[song]}, {source}, {STATIC_SECONDS:.0f} s from {excerpt.start_s + skip:.0f} s"
                parts.append(player(cut, rate, seconds=STATIC_SECONDS, title=title, error=errors).data)
        return "<br>".join(parts)

    def widget(self) -> Any:
        """Three menus over the page of what they say."""
        import ipywidgets  # slow to import

        songs = [(name, song) for song, name in self.songs.items()]
        choices = {"song": songs, "run": self.runs, "source": self.sources}
        wide = {"width": "max-content"}  # song and "(easy)" are not cut
        menus = [ipywidgets.Dropdown(options=of, description=name, layout=wide) for name, of in choices.items()]
        place, lock, newest = ipywidgets.HTML(), Lock(), list[Choice]([("", "", "")])
        worker = ThreadPoolExecutor(1, "chooser")

        def show(choice: Choice) -> None:
            if choice != newest[0]:
                return
            try:
                page = self.page(*choice)
            except Exception as error:  # in a thread nobody else would say it
                page = f"<p class='sepkit-chosen'>{self.heading(*choice)}: {html.escape(f'{type(error).__name__}: {error}')}</p>"
            with lock:
                if choice == newest[0]:
                    place.value = self.held(choice, page)
            # the next choice is likely another run, or the other song; of test songs there are no excerpts yet
            others = sorted(self.validation, key=lambda song: song != choice[0]) if choice[0] in self.validation else ()
            for song in others:
                for run in self.runs:
                    if choice == newest[0]:
                        self.page(song, run, choice[2])

        def update(_: Any = None) -> None:
            choice = (menus[0].value, menus[1].value, menus[2].value)
            with lock:
                newest[0] = choice
                place.value = BUSY
            worker.submit(show, choice)

        for menu in menus:
            menu.observe(update, names="value")
        update()
        box = ipywidgets.VBox([ipywidgets.HBox(menus), place])
        box.add_class("sepkit-chooser")
        return box

    def _ipython_display_(self) -> None:
        from IPython import get_ipython
        from IPython.display import HTML, display

        said = "Run this cell to choose song, run and source"
        # where nobody can choose (papermill, nbconvert), menus would only be a warning in the page
        if getattr(getattr(get_ipython(), "kernel", None), "_allow_stdin", False):
            display(self.widget())
            said = "The same without menus, for when no kernel runs"
        display(HTML(f"<p>{said}:</p>{self.static_html()}"))
