"""The procedural songs: songs.py puts them on the disk, song.py composes one, synth.py has its instruments."""
