"""What two copies of a ledger or of a run become together."""

from sepkit.storage.merge import missing_rows

HEADER = b"time,run,stage,epoch,minutes,gpu_min,device,vram_mib,id\n"
OLD_HEADER = b"time,run,stage,epoch,minutes,gpu_min,device,vram_mib\n"


def test_rows_are_known_by_their_id_and_old_ones_by_their_text():
    old = b"2024-01-01T00:00:00,Base-s0,train,1,0.3333,0.3333,T4,900"
    ours = b'2024-01-01T00:00:00,"B, s0",train,1,0.3333,0.3333,T4,900,aa'
    theirs = ours.removesuffix(b"aa") + b"bb"
    here, there = OLD_HEADER + old + b"\n" + ours + b"\n", HEADER + theirs + b"\r\n" + old + b"\n" + ours
    assert missing_rows(here, there) == [theirs]
    assert missing_rows(there, here) == []
    assert missing_rows(b"", there) == [theirs, old, ours]
