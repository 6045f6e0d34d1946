"""Two versions of one file or run: what each has that the other lacks."""

import csv

LEDGER = "budget.csv"


def missing_rows(ledger: bytes, other: bytes) -> list[bytes]:
    """Lines of the ledger `other` whose rows `ledger` lacks, headers left out.

    A row is known by its id; one without (written before there were ids, or cut short) by its text.
    """
    known = {_identity(line) for line in ledger.splitlines()}
    return [line for line in other.splitlines() if line and _identity(line) not in known | {b"header"}]


def _identity(line: bytes) -> bytes:
    if line.startswith(b"time,run,"):
        return b"header"
    fields = next(csv.reader([line.decode("utf-8", "surrogateescape")]), [])
    return fields[8].encode("utf-8", "surrogateescape") if len(fields) > 8 and fields[8] else line
