"""The cache that a stage needs: of the songs at hand, else one that is whole without them, here or on Drive."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from sepkit.data.build import build_cache, source_digest
from sepkit.data.cache import Cache, CacheSettings, track_file
from sepkit.data.check import UnusableSongs, require_headers, tell_unknown
from sepkit.data.locate import locate_songs, songs_at_hand
from sepkit.data.manifest import Checks, Manifests, read_manifest, read_manifests
from sepkit.data.packs import restore, stored_manifests
from sepkit.data.tracks import SPLITS
from sepkit.errors import SepkitError
from sepkit.profiles import STEMS, Profile
from sepkit.storage import DataLike, Root, named


def open_cache(
    profile: Profile,
    data: DataLike,
    root: Root,
    settings: CacheSettings,
    splits: Iterable[str],
    doing: str,
    *,
    whole: bool = True,
) -> Cache:
    """The cache with these settings, open for `splits`; doing: the stage, for messages; SepkitError where there is none.

    Where a folder of songs is given, or lies under the root, it is the cache of these songs.  Else a cache of the root,
    or of its copy on Drive, that is whole for `splits`.  Else songs are made or downloaded, where the profile does so.
    whole: refuse songs that can't be used; else they are left out, and `unusable` of the cache has them with the reason.
    """
    splits = tuple(splits)
    if not songs_at_hand(profile, data, root):
        found = here = read_manifests(root.path)
        if not (complete := _complete(here, settings, splits, root)):
            there = stored_manifests(root)
            found, complete = {**there, **here}, _complete(there, settings, splits, root)
        if complete and (len(complete) == 1 or profile.songs_from == "given"):
            return _without_songs(root, complete, settings, splits)
        if found and profile.songs_from == "given":
            raise SepkitError(_no_cache(found, profile, settings, splits, root, doing))
    folder, unusable = locate_songs(profile, data, root), dict[str, str]()
    while True:
        try:
            # songs that can't be scored are told before a training that takes hours; scoring needs its own songs alone
            require_headers(folder, doing, SPLITS if whole else splits)
            cache = build_cache(folder, root, settings, splits)
        except UnusableSongs as error:
            bad = {problem.track: str(problem) for problem in error.problems}
            tracks = [track for track in folder.tracks if track.name not in bad]
            if whole or "" in bad or not any(track.split in splits for track in tracks):
                raise
            unusable |= {track.name: bad[track.name] for track in folder.tracks if track.name in bad}
            left_out = tuple(track for track in folder.tracks if track.name in bad)
            folder = replace(folder, tracks=tuple(tracks), excluded=(*folder.excluded, *left_out))
        else:
            cache.unusable = unusable
            return cache


def other_songs(
    trained: Mapping[str, Any], profile: Profile, data: DataLike, root: Root, settings: CacheSettings
) -> str:
    """How the training songs that are here differ from those of a run (`data` of its config.json); "" where they don't."""
    if songs_at_hand(profile, data, root):
        tracks = {track.name: track for track in locate_songs(profile, data, root).tracks if track.split != "test"}
        made = read_manifest(root.path / "cache" / trained["cache"]).get("songs", {})
        changed = [name for name in tracks if name in made and source_digest(tracks[name]) != made[name]["source"]]
    else:
        here = _complete(read_manifests(root.path), settings, ("train", "valid"), root)
        if trained["cache"] in here or len(here) != 1:
            return ""
        ((_, manifest),) = here.items()
        tracks = {name: song for name, song in manifest["songs"].items() if song["split"] != "test"}
        changed = []
    names = sorted(tracks.keys() ^ {*trained["train"], *trained["valid"], *trained["test"]}) or changed
    return f"{len(names)} differ, first {names[0]}" if names else ""


def _complete(manifests: Manifests, settings: CacheSettings, splits: tuple[str, ...], root: Root) -> Manifests:
    fitting = {name: manifest for name, manifest in manifests.items() if manifest["settings"] == settings.to_dict()}
    return {name: manifest for name, manifest in fitting.items() if not _lacks(manifest, splits, root)}


def _lacks(manifest: dict[str, Any], splits: tuple[str, ...], root: Root) -> list[str]:
    """What keeps a cache from being used without songs: splits that are not whole, songs that it left out."""
    excluded, _ = named(root.excluded(), {**manifest["songs"], **manifest["without"]})
    songs = [name for name, song in manifest["without"].items() if song["split"] in splits and name not in excluded]
    return [*(split for split in splits if split not in manifest["whole"]), *map(repr, songs)]


def _without_songs(root: Root, whole: Manifests, settings: CacheSettings, splits: tuple[str, ...]) -> Cache:
    """The one cache of `whole`, opened; a damaged file is fetched from the copy on Drive."""
    if len(whole) > 1:
        which = f"{root.path / 'cache'} holds {len(whole)} caches of different songs that fit ({', '.join(whole)})"
        raise SepkitError(f"{which}; give the folder of songs with --data, or delete the others.")
    ((name, manifest),) = whole.items()
    path, known = root.path / "cache" / name, {**manifest["songs"], **manifest["without"]}
    excluded, unknown = named(root.excluded(), known)
    tell_unknown([("exclude.txt", line) for line in unknown], {song: known[song]["split"] for song in known})
    songs = {name: song for name, song in manifest["songs"].items() if name not in excluded and song["split"] in splits}
    if faults := Checks(path, songs).damaged(songs):
        restore(root, name, manifest, faults.keys())
        faults = Checks(path, songs).damaged(songs)
    if faults:
        song, fault = next(iter(faults.items()))
        fix = "give the folder of songs with --data to build it again, or delete the cache"
        raise SepkitError(f"{track_file(path, song)} {fault} ({len(faults)} of {len(songs)} songs); {fix}.")
    print(f"songs: {len(songs)} from the cache {name}; no folder of songs is here")
    left_out = {name: known[name] for name in excluded}
    return Cache(path, settings, songs, left_out, manifest["layout"], manifest.get("origin", ""))


def _no_cache(
    there: Manifests, profile: Profile, settings: CacheSettings, splits: tuple[str, ...], root: Root, doing: str
) -> str:
    """The sentence for caches none of which fits: what each holds, what is asked for, what to call."""
    held = []
    for name, manifest in there.items():
        lacks = _lacks(manifest, splits, root) if manifest["settings"] == settings.to_dict() else []
        but = f", but not all of {', '.join(lacks)}" if lacks else ""
        held.append(f"{name} holds {_words(manifest['settings'])}{but}")
    fix = "give the folder with --data"
    if settings.kind == "wave" and settings.sample_rate == profile.scored_at:
        stems = " --stems" if settings.sources == STEMS else ""
        fix += f", or fetch them: python -m sepkit fetch --profile {profile.name}{stems}"
    needed = f"{_words(settings.to_dict())} with all {' and '.join(splits)} songs"
    none = f"there is no folder of songs to build it from: {'; '.join(held)} ({root.path / 'cache'})"
    return f"{doing} needs a cache of {needed}, and {none}; {fix}."


def _words(settings: dict[str, Any]) -> str:
    stft = f", bins of {settings['n_fft']}/{settings['hop_length']}" if settings["kind"] == "stft" else ""
    return f"{settings['kind']} of {', '.join(settings['sources'])} at {settings['sample_rate']} Hz{stft}"
