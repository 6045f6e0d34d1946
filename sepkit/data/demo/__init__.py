"""The procedural songs: songs.py puts them on the disk, song.py composes one, synth.py has its instruments."""

from sepkit.data.demo.songs import make_demo_songs as make_demo_songs
