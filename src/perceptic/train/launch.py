"""One command that starts several processes on this machine, as torchrun does; for several machines there are torchrun
and srun.

On a processor, several processes of one thread each train a small model faster than one of several threads, whose
products are too small to be shared out (benchmarks/train_processes.py).
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence

from perceptic.errors import EXIT_INTERRUPTED, ConfigError
from perceptic.media.cores import usable_cores
from perceptic.train.parallel import find_place

_POLL_SECONDS = 0.1
_GRACE_SECONDS = 60.0
"""For the others to notice that one has ended, before they are ended too."""
_HANDED_ON = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def run_together(command: Sequence[str], count: int) -> int:
    """Run `count` processes of a command that find each other by torchrun's variables; returns the exit status of the
    first of them to fail, 0 if none does.

    SIGINT, SIGTERM and SIGHUP are handed to the first process, which stops all of them; a second one ends them at once.
    Each has its share of the cores, unless OMP_NUM_THREADS says otherwise. The first process speaks for all; what
    another says on stderr is shown if it was the first to fail.

    Raises:
        ConfigError: this process is one of several already.
    """
    if find_place(os.environ) is not None:
        raise ConfigError(
            "--processes: this process was started together with others already (torchrun, srun); drop it"
        )
    port = _free_port()
    with contextlib.ExitStack() as held:
        said = [None, *(held.enter_context(tempfile.TemporaryFile()) for _ in range(1, count))]
        children = [
            # In sessions of their own: Ctrl-C in a terminal would reach each of them, and once more from here.
            subprocess.Popen(command, env=_environment(rank, count, port), start_new_session=True, stderr=stderr)
            for rank, stderr in enumerate(said)
        ]
        try:
            with _handing_on(children):
                failed = _wait(children)
        finally:
            for child in children:
                child.kill()
                child.wait()
        if failed is None:
            return 0
        if (stderr := said[failed]) is not None:
            stderr.seek(0)
            sys.stderr.write(stderr.read().decode(errors="replace"))
        status = children[failed].returncode
        return status if status >= 0 else 128 - status


def _wait(children: Sequence[subprocess.Popen[bytes]]) -> int | None:
    """Until all have ended, or one has failed and the others do not notice; returns the first that failed."""
    failed, since = None, 0.0
    while True:
        statuses = [child.poll() for child in children]
        if failed is None:
            failed = next((rank for rank, status in enumerate(statuses) if status), None)
            since = time.monotonic()
        is_lost = failed is not None and statuses[failed] != EXIT_INTERRUPTED
        if None not in statuses or (is_lost and time.monotonic() - since > _GRACE_SECONDS):
            return failed
        time.sleep(_POLL_SECONDS)


@contextlib.contextmanager
def _handing_on(children: Sequence[subprocess.Popen[bytes]]) -> Iterator[None]:
    noted = 0

    def note(number: int, frame: object) -> None:
        nonlocal noted
        noted += 1
        for child in children[:1] if noted == 1 else children:
            child.send_signal(signal.SIGTERM if noted == 1 else signal.SIGKILL)

    previous = {number: signal.signal(number, note) for number in _HANDED_ON}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _environment(rank: int, count: int, port: int) -> Mapping[str, str]:
    own = {
        "RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count,
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port,
    }  # fmt: skip
    threads = {"OMP_NUM_THREADS": str(max(1, usable_cores() // count))}
    return {**threads, **os.environ, **{name: str(value) for name, value in own.items()}}


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
    return port
