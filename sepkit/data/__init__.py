"""Songs on disk -> checked tracks -> caches -> batches.

songs.py finds and reads songs, check.py says what is wrong with them, locate.py knows where a
profile's songs lie, cache.py stores them for fast reading, batches.py draws training clips.
"""
