"""The procedural songs: songs.py puts them on the disk, song.py composes one, synth.py has its instruments."""

from sepkit.data.demo.songs import DemoSong, make_demo_songs

__all__ = ["DemoSong", "make_demo_songs"]
