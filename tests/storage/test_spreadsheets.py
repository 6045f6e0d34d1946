"""What two copies of a ledger become together."""

from sepkit.storage.spreadsheets import ledger_lines, missing_lines

HEADER = b"time,run,stage,epoch,minutes,gpu_min,device,vram_mib,id\n"


def test_rows_are_known_by_their_id_and_what_is_left_of_one_is_none():
    ours = b'2024-01-01T00:00:00,"B, s0",train,1,0.3333,0.3333,T4,900,' + b"a" * 32
    theirs = ours.replace(b"a" * 32, b"b" * 32)
    torn, damaged = ours[:30], b"2024-01-02T00:00:00,C-s0,train,1,many"
    here = ledger_lines(HEADER + ours + b"\n")
    there = ledger_lines(HEADER + theirs + b"\r\n" + torn + b"\r\n" + damaged + b"\r\n" + ours)
    assert missing_lines(here, there) == [damaged, theirs]
    assert missing_lines(there, here) == []
    assert missing_lines(ledger_lines(b""), there) == [torn, damaged, theirs, ours]
