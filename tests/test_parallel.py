"""librosa's first import on a machine is one process's work at a time; later ones do not wait for each other."""

import fcntl
import tempfile
import threading

import pytest

from sepkit.parallel import import_librosa


@pytest.fixture
def lock(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    import_librosa.cache_clear()  # as in a process that has not called it
    import_librosa()
    import_librosa.cache_clear()
    (path,) = tmp_path.glob("sepkit-librosa-*.lock")
    with path.open("w") as file:
        yield file


def importing() -> threading.Thread:
    thread = threading.Thread(target=import_librosa, daemon=True)
    thread.start()
    thread.join(timeout=1)
    return thread


def test_waits_for_a_process_that_compiles(lock):
    fcntl.flock(lock, fcntl.LOCK_EX)
    thread = importing()
    assert thread.is_alive()
    fcntl.flock(lock, fcntl.LOCK_UN)
    thread.join(timeout=60)
    assert not thread.is_alive()


def test_does_not_wait_for_processes_that_read(lock):
    fcntl.flock(lock, fcntl.LOCK_SH)
    assert not importing().is_alive()


def test_leaves_the_lock_to_others(lock):
    assert import_librosa().onset.onset_detect
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
