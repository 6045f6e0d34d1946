"""Large caches on Drive: a few large files instead of hundreds, each verified.

A cache above PACK_ABOVE lies on Drive as `cache/<name>/train-00.zip`, `test-00.zip`, … of about PACK_BYTES, not compressed;
training and validation songs share packs.  `packs.json` has the digest and the songs of those that are there, and
`manifest.json`, copied last, says that all are.  The local disk holds one pack at a time.
"""

import shutil
import zipfile
from collections.abc import Collection
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any

from sepkit.data.cache import track_file
from sepkit.data.manifest import Checks, Manifests, read_manifests
from sepkit.errors import SepkitError
from sepkit.storage import Root, drive, read_json, remove_leftovers, write_json, writing
from sepkit.storage.copying import LIST_S, copy_file, digest, has_room, on_drive, reason, within
from sepkit.storage.files import part_of
from sepkit.storage.sync import PACK_ABOVE

PACK_BYTES = 10**9
GROUPS = {"train": ("train", "valid"), "test": ("test",)}
TRIES = 2  # of a pack that arrives torn

Packs = dict[str, dict[str, Any]]  # by file name: its "digest" and "bytes", and its "songs" with their digests


def store(root: Root) -> str:
    """Copies the large caches of `root` into its copy on Drive; a sentence, "" for nothing to do.

    Nothing is copied that would take the room of results.  The next call goes on where this one failed.
    """
    said: list[str] = []
    if drive.drive_folder(root) is None:
        return ""
    for name, manifest in read_manifests(root.path).items():
        if sum(song["bytes"] for song in manifest["songs"].values()) > PACK_ABOVE:
            if not said:
                drive.push(root)  # results come first, and on the first day this makes the copy
            copy, fault = drive.standing(root)
            try:
                fault = fault or (_store(root, copy, name, manifest) if copy else "")
            except OSError as error:
                fault = reason(error)
            said.append(f"the cache {name} is {f'not on Drive: {fault}' if fault else 'on Drive'}")
    return "; ".join(said)


def _store(root: Root, copy: Path, name: str, manifest: dict[str, Any]) -> str:
    """Copies the packs of one cache that are not on Drive; why it can't be done, "" where it is done."""
    here, there = root.path / "cache" / name, copy / "cache" / name
    on_drive(lambda: there.mkdir(parents=True, exist_ok=True))
    found, songs = _packs_of(there), manifest["songs"]
    kept = {pack: facts for pack, facts in found.items() if _is_current(there / pack, facts, songs)}
    plan = _plan(manifest, kept, found)
    size = sum(songs[song]["bytes"] for names in plan.values() for song in names)
    if faults := Checks(here, songs).damaged(song for names in plan.values() for song in names):
        song, fault = next(iter(faults.items()))
        return f"{track_file(here, song)} {fault}"
    if plan and not has_room(there, size):
        return f"its {size / 1e9:.2f} GB would leave too little room for results"
    remove_leftovers(here)
    for number, (pack, names) in enumerate(plan.items(), 1):
        part = part_of(here / pack)
        try:
            with zipfile.ZipFile(part, "w") as out:
                for file in (track_file(here, song) for song in names):
                    out.write(file, file.name)
            copy_file(part, there / pack)
            facts = {"digest": digest(part), "bytes": part.stat().st_size}
        finally:
            part.unlink(missing_ok=True)
        kept[pack] = {**facts, "songs": {song: songs[song]["digest"] for song in names}}
        on_drive(write_json, there / "packs.json", kept)
        print(f"drive {number}/{len(plan)} {name}/{pack}, {len(names)} songs", flush=True)
    for pack in found.keys() - kept.keys():
        on_drive((there / pack).unlink, True)
    on_drive(write_json, there / "packs.json", kept)
    on_drive(write_json, there / "manifest.json", manifest)
    return ""


def _plan(manifest: dict[str, Any], kept: Packs, found: Packs) -> dict[str, list[str]]:
    """The packs to write, {file name: songs}: all songs of whole splits that `kept` lacks, under names not yet `found`.

    Of other splits, those that fill a pack.
    """
    stored, plan = {song for facts in kept.values() for song in facts["songs"]}, dict[str, list[str]]()
    for group, splits in GROUPS.items():
        room, pack = 0, ""
        for song, facts in manifest["songs"].items():
            if song in stored or facts["split"] not in splits:
                continue
            if facts["bytes"] > room:
                names = (f"{group}-{number:02}.zip" for number in count())
                pack, room = next(name for name in names if name not in plan and name not in found), PACK_BYTES
                plan[pack] = []
            plan[pack].append(song)
            room -= facts["bytes"]
        if any(manifest["songs"][song]["split"] not in manifest["whole"] for song in plan.get(pack, ())):
            del plan[pack]  # it grows still
    return plan


def _is_current(pack: Path, facts: dict[str, Any], songs: dict[str, Any]) -> bool:
    with suppress(FileNotFoundError):
        whole = on_drive(pack.stat).st_size == facts["bytes"]
        return whole and all(songs.get(song, {}).get("digest") == of for song, of in facts["songs"].items())
    return False


def _packs_of(folder: Path) -> Packs:
    """packs.json of a cache on Drive; {} where there is none, or a torn one."""
    with suppress(SepkitError):
        return on_drive(read_json, folder / "packs.json", "the packs of a cache")
    return {}


def stored_manifests(root: Root) -> Manifests:
    """The caches that are whole on the copy of `root` on Drive; {} where it can't be read."""
    copy, fault = drive.standing(root)
    with suppress(OSError, SepkitError):
        return within(LIST_S, read_manifests, copy) if copy and not fault else {}
    return {}


def restore(root: Root, name: str, manifest: dict[str, Any], songs: Collection[str]) -> None:
    """Fetches these songs of the cache `name` from Drive, if it is there; only the packs that hold them are copied."""
    copy, fault = drive.standing(root)
    if copy is None or fault:
        return
    here, there = root.path / "cache" / name, copy / "cache" / name
    here.mkdir(parents=True, exist_ok=True)
    remove_leftovers(here)
    write_json(here / "manifest.json", manifest)
    checks = Checks(here, manifest["songs"])
    try:
        packs = _packs_of(there)
        needed = {pack: facts for pack, facts in packs.items() if set(songs) & facts["songs"].keys()}
        size = sum(manifest["songs"][song]["bytes"] for song in songs)
        size += max((facts["bytes"] for facts in needed.values()), default=0)
        if size > (free := shutil.disk_usage(here).free):
            few = f"need {size / 1e9:.2f} GB here, but {here} has {free / 1e9:.2f} GB free; free some space, or give"
            raise SepkitError(f"The songs of the cache {name} on Drive {few} a --root on another disk.")
        for song in songs if not packs else ():
            with suppress(FileNotFoundError):
                copy_file(track_file(there, song), track_file(here, song))
        for number, (pack, facts) in enumerate(needed.items(), 1):
            try:
                _unpack(there / pack, facts, [song for song in songs if song in facts["songs"]], checks)
            except FileNotFoundError:
                print(f"{there / pack} is gone, and its {len(facts['songs'])} songs with it", flush=True)
                continue
            print(f"from Drive {number}/{len(needed)} {name}/{pack}", flush=True)
    except OSError as error:
        raise SepkitError(f"The songs of {there} can't be fetched from Drive: {reason(error)}.") from error


def _unpack(pack: Path, facts: dict[str, Any], songs: list[str], checks: Checks) -> None:
    part = part_of(checks.path / pack.name)
    try:
        for attempt in range(1, TRIES + 1):
            copy_file(pack, part)
            if digest(part) == facts["digest"]:
                break
            if attempt == TRIES:
                fix = "delete it there, and call cache again where the songs are"
                raise SepkitError(f"{pack} on Drive holds other bytes than were written; {fix}.")
            print(f"{pack.name} arrived torn; it is copied again", flush=True)
        with zipfile.ZipFile(part) as packed:
            for song in songs:
                file = track_file(checks.path, song)
                with writing(file) as out, packed.open(file.name) as content, out.open("wb") as whole:
                    shutil.copyfileobj(content, whole, 2**20)
                if facts["songs"][song] == checks.songs[song]["digest"]:
                    checks.trust(song)  # the pack's digest and the archive's checksum were right
    finally:
        part.unlink(missing_ok=True)
