"""Work over many tracks or runs: joblib, on this machine's cores or on a dask cluster.

Inside `joblib.parallel_config(backend="dask")` the same calls go to the cluster, whose workers have
to see the same folders.
"""

import warnings
from collections.abc import Iterable, Iterator
from typing import Any

from joblib import Parallel


def spread(calls: Iterable[Any], *, n_jobs: int | None = -1, ahead: str = "2*n_jobs") -> Iterator[Any]:
    """Results of joblib's `delayed` calls in their order, as they come.

    ahead: how many calls are handed out before their turn, for those that carry much.
    """
    with warnings.catch_warnings():
        # joblib renews a worker whose memory grew (importing torch is enough); that is its business,
        # and under "warnings are errors" the warning would end the thread that all results wait for
        warnings.filterwarnings("ignore", message="A worker stopped while some jobs were given")
        yield from Parallel(n_jobs=n_jobs, return_as="generator", pre_dispatch=ahead)(calls)
