"""Songs on disk (songs, locate) -> checked tracks (check) -> caches (build, cache) -> batches (folds, augment, batches)."""
