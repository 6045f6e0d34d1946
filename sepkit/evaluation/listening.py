"""Estimates for eye and ear: of a whole song, and excerpts of the easy and of the hard one that stay with their run.

The easy and the hard song are Base's best and worst validation song. They are chosen once, for all runs and days, and
again only where one of them is excluded or its files change. An excerpt is the 8 s with the loudest vocals, cut out of
the estimate of the whole song.
"""

import numpy as np

from sepkit.data.cache import Cache, scoring_cache_settings
from sepkit.devices import device_name, one_thread, pick_device
from sepkit.dsp import loudest_s
from sepkit.errors import SepkitError
from sepkit.evaluation.estimators import Estimator, make_estimator
from sepkit.evaluation.score_files import read_origins
from sepkit.evaluation.scoring import contaminated, evaluate, open_scored, scoring_songs
from sepkit.experiments import BASE
from sepkit.storage import DataLike, Root, Run, spending
from sepkit.storage.excerpts import SECONDS, Excerpt, choose, chosen, easy_and_hard, keep, kept


def estimates(run: Run, song: str, data: DataLike = None, split: str = "test") -> dict[str, np.ndarray]:
    """{"mixture", "<source>" (the target), "<source> estimate"}, each (channel, time) at the profile's `scored_at`."""
    device = pick_device(None)
    with spending(run.root, run=run.name, stage="estimates", device=device_name(device)), one_thread(device):
        cache, songs = scoring_songs(run, data, split)
        if song not in songs:
            raise SepkitError(f"{song!r} is not among the {len(songs)} {split} songs of {run.name}.")
        return _clips(cache, song, make_estimator(run, device))


def excerpts(run: Run, data: DataLike = None) -> list[Excerpt]:
    """The excerpts of the easy and of the hard song, read where they are kept, else made and kept.

    A song that a fold's run was trained on and one whose estimate can't be made are left out, with a line.

    Raises SepkitError where excerpts are to be made and the run, or Base, which chooses the songs, is not finished.
    """
    songs = easy_and_hard(run.root) or choose_songs(run.root, data)
    found = {song: kept(run, song) for song in songs}
    if None in found.values():
        if not run.finished:
            raise SepkitError(f"{run.name} {run.standing}; train it to its end before you look at it.")
        device = pick_device(None)
        with spending(run.root, run=run.name, stage="excerpts", device=device_name(device)), one_thread(device):
            cache = open_scored(run.root, run.config["profile"], data, scoring_cache_settings(run.config), ("valid",))
            if any(cache.songs.get(song, {}).get("source") != made for song, made in chosen(run.root).items() if made):
                found = {song: kept(run, song) for song in choose_songs(run.root, data)}
            _make(run, found, cache, device)
    return [excerpt for excerpt in found.values() if excerpt]


def choose_songs(root: Root, data: DataLike = None) -> tuple[str, str]:
    """Chooses the easy and the hard song anew: Base's best and worst validation song."""
    bases = [run for run in root.runs() if run.config["experiment"] == BASE and run.config.get("fold") is None]
    base = next((run for run in bases if run.finished), root.run_of(BASE))
    scores = evaluate(base, data=data, split="valid")
    rows = scores.query("metric == 'sdr_bsseval' and source == 'vocals'").dropna(subset="value")
    if rows.empty:
        raise SepkitError("No validation song of Base has a defined sdr_bsseval; look at its valid_scores.csv.")
    ranked, origins = rows.sort_values("value")["track"].astype(str), read_origins(base, "valid")
    choose(root, {song: origins.get(song, {}).get("source") for song in (ranked.iloc[-1], ranked.iloc[0])})
    return ranked.iloc[-1], ranked.iloc[0]


def _make(run: Run, found: dict[str, Excerpt | None], cache: Cache, device: str) -> None:
    """Fills the gaps of `found`, {song: excerpt}."""
    missing = [song for song, excerpt in found.items() if excerpt is None]
    unfit = contaminated(run, cache, [song for song in missing if song in cache.songs], "valid")
    unfit |= {song: cache.unusable.get(song, "it is not here") for song in missing if song not in cache.songs}
    estimator = make_estimator(run, device) if len(unfit) < len(missing) else None
    for song in missing:
        try:
            if song in unfit or estimator is None:
                raise SepkitError(unfit[song])
            keep(run, _excerpt(_clips(cache, song, estimator), song, cache, run.weights()))
            found[song] = kept(run, song)
        except SepkitError as error:
            print(f"{run.name}: no excerpt of {song}: {error}", flush=True)


def _clips(cache: Cache, song: str, estimator: Estimator) -> dict[str, np.ndarray]:
    mixture, targets = cache.song(song)
    found, clips = estimator(mixture, targets, song), {"mixture": mixture}
    for source, target in targets.items():
        clips |= {source: target, f"{source} estimate": found[source]}
    return clips


def _excerpt(clips: dict[str, np.ndarray], song: str, cache: Cache, weights: str | None) -> Excerpt:
    """The 8 s with the loudest vocals; of four sources, all but the vocals are the accompaniment."""
    rate, start = cache.sample_rate, loudest_s(clips["vocals"], cache.sample_rate, SECONDS)
    first, rest = round(start * rate), [source for source in cache.settings.sources if source != "vocals"]
    cut = {name: clip[:, first : first + round(SECONDS * rate)] for name, clip in clips.items()}
    both = {name: cut[name] for name in ("mixture", "vocals", "vocals estimate")}
    for suffix in ("", " estimate"):
        both[f"accompaniment{suffix}"] = sum((cut[f"{source}{suffix}"] for source in rest[1:]), cut[rest[0] + suffix])
    return Excerpt(song, start, rate, both, {"weights": weights, "source": cache.songs[song].get("source")})
