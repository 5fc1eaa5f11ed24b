"""The processes of an MPI run: what one of them (a *rank*) says to the others.

All ranks run the same program on the same batches. Each takes its own images of a batch through
the net, and where the slices of a batch meet, the ranks meet: batch norm's sums and the gradients
of the parameters are added over all. So every rank has the same loss, the same gradients and, after
its own step, the same weights.

Sums are added here, in the order of the ranks, and not by MPI, which may choose another order from
one run to the next: the same number of ranks and threads gives the same bits. Nobody waits for
ever. A rank that has heard nothing for a while asks around, and the one that does not answer is
named.
"""

from __future__ import annotations

import os
import pickle
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import numpy as np

from ..errors import TinyshuffleError
from ..files import installed
from ..values import flags
from .sums import Sum

Value = TypeVar("Value")

__all__ = ["Ranks", "Sum", "current", "last_words", "ranks"]

PATIENCE = 300.0
"""Seconds without a word from a rank. What takes longest is to compile the kernels; a rank that
loads data says that it is at it."""

_FORWARDED = 2.0  # seconds that MPI's starter has to print what was said, before it kills itself
_GRACE = 5.0  # seconds in which the others answer who is still there
_ASKED, _AT_WORK = 7, 8  # what a message says: the numbers (tags) of MPI
_LEAST = 1e-3  # seconds of the processor's that a rank at work uses while others are patient
_SPINS = 50  # looks at a message before another process may have the core

# a sleep of no time at all may take the system 80 µs, as long as ten messages
_let_others_run: Callable[[], None] = getattr(os, "sched_yield", lambda: time.sleep(0))

_current: Ranks | None = None


def current() -> Ranks | None:
    """Return the ranks that this process is one of, inside of :func:`ranks`."""
    return _current


@contextmanager
@flags
def ranks(sync_bn: bool = True, patience: float = PATIENCE) -> Iterator[Ranks]:
    """Let nets share each batch with the other processes of an MPI run, inside a ``with``.

    ``mpiexec -n 4 python program.py`` starts four processes, each of which runs all of the program.
    A net in training returns the output of the whole batch on every rank; the gradient of the
    images that its backward pass returns is that of the rank's own images, and NaN for the others.

    Parameters
    ----------
    sync_bn : bool
        Normalise with the statistics of the whole batch, as one process does. Otherwise each rank
        normalises its own images by themselves, and has running statistics of its own.
    patience : float
        Seconds to wait for another rank.

    Raises
    ------
    TinyshuffleError
        If mpi4py is not installed or finds no MPI.
    """
    global _current
    if not installed("mpi4py"):
        raise TinyshuffleError(
            "several processes need the packages mpi4py and an MPI: pip install mpi4py mpich"
        )
    try:
        from mpi4py import MPI
    except (ImportError, RuntimeError) as error:
        raise TinyshuffleError(
            f"mpi4py finds no MPI ({error}): pip install mpich, or load your cluster's"
        ) from error
    before, _current = _current, Ranks(MPI.COMM_WORLD.Dup(), sync_bn, patience)
    try:
        yield _current
    finally:
        _current = before


_LAST_WORDS = """
import sys
if not sys.stdin.buffer.read():
    print("Error: one of the ranks has ended, and so all have: continue from the last checkpoint "
          "with --resume", file=sys.stderr, flush=True)
"""


@contextmanager
def last_words(us: Ranks) -> Iterator[None]:
    """Let a sentence be said if the system kills the ranks, who then cannot say it themselves.

    MPI's starter kills all ranks when one has died. A process outside of their group waits for
    the first one's end.
    """
    if us.rank > 0 or us.size == 1:
        yield
        return
    code = [sys.executable, "-I", "-S", "-c", _LAST_WORDS]
    us.speaker = subprocess.Popen(code, stdin=subprocess.PIPE, start_new_session=True)
    try:
        yield
    finally:
        us.speak_for_myself()


class Ranks:
    """The processes that share each batch.

    Parameters
    ----------
    comm : mpi4py communicator
        That nobody else uses.
    sync_bn, patience
        See :func:`ranks`.

    Attributes
    ----------
    rank, size : int
        Which of how many this process is.
    here : int
        How many of them run on this machine.
    cores : int
        On how many of its cores these may run, all together.
    """

    @flags
    def __init__(self, comm: Any, sync_bn: bool = True, patience: float = PATIENCE) -> None:
        from mpi4py import MPI

        self.comm, self.sync_bn, self.patience = comm, sync_bn, patience
        self.rank, self.size = comm.Get_rank(), comm.Get_size()
        self._asking = comm.Dup()
        shared = comm.Split_type(MPI.COMM_TYPE_SHARED)
        self.here: int = shared.Get_size()
        # each may be bound to some cores of its own
        self.cores = len(set().union(*shared.allgather(_allowed())))
        first = shared.Get_rank() == 0  # of its machine
        self._turn = 0 if self.rank == 0 else 1 if first else 2
        shared.Free()
        self._buffers: dict[int, np.ndarray] = {}
        # one for each sum under way: on one all ranks would have to send in the same order
        self._apart: list[Any] = []
        self.speaker: subprocess.Popen[bytes] | None = None  # see last_words

    def part(self, n: int) -> slice:
        """Return which of ``n`` images are this rank's."""
        return slice(n * self.rank // self.size, n * (self.rank + 1) // self.size)

    # ---- numbers

    def add(self, *arrays: np.ndarray) -> None:
        """Add up arrays over the ranks, in place, in the order of the ranks: all get the sum."""
        dtype, n = arrays[0].dtype, sum(a.size for a in arrays)
        mine = self._buffer(0, n, dtype)
        at = 0
        for a in arrays:
            mine[at : at + a.size] = a.reshape(-1)
            at += a.size
        Sum(self, mine, 1, self.comm).end()
        at = 0
        for a in arrays:
            a.reshape(-1)[:] = mine[at : at + a.size]
            at += a.size

    def start_adding(self, a: np.ndarray, which: int) -> Sum:
        """Begin to add up a contiguous array over the ranks, in place; several may be under way.

        ``which`` is this one's number. Until it has ended nobody may touch the array.
        """
        while len(self._apart) <= which:
            self._apart.append(self.comm.Dup())
        return Sum(self, a, 2 + which, self._apart[which])

    def gather(self, mine: np.ndarray, n: int) -> np.ndarray:
        """Return what all ranks have of ``n`` images, from this rank's part; all get it."""
        mine = np.ascontiguousarray(mine)
        whole = np.empty((n, *mine.shape[1:]), mine.dtype)
        each = mine.size // max(len(mine), 1)
        ends = [each * (n * i // self.size) for i in range(self.size + 1)]
        counts = [b - a for a, b in zip(ends[:-1], ends[1:], strict=True)]
        self._wait(self.comm.Iallgatherv(mine, [whole, (counts, ends[:-1])]))
        return whole

    def most(self, *values: float) -> list[float]:
        """Return the largest of each number over the ranks."""
        mine = np.array(values, np.float64)
        parts = np.empty((self.size, mine.size))
        self._wait(self.comm.Iallgather(mine, parts))
        found: list[float] = parts.max(0).tolist()
        return found

    # ---- anything else

    def first(self, value: Any) -> Any:
        """Return what rank 0 has."""
        data = pickle.dumps(value) if self.rank == 0 else b""
        size = np.array([len(data)])
        self._wait(self.comm.Ibcast(size, 0))
        block = np.empty(int(size[0]), np.uint8)
        if self.rank == 0:
            block[:] = np.frombuffer(data, np.uint8)
        self._wait(self.comm.Ibcast(block, 0))
        # what this very program has sent, as mpi4py's own bcast would; no file comes this way
        return value if self.rank == 0 else pickle.loads(block.tobytes())

    def all(self, value: Value) -> list[Value]:
        """Return what each rank has."""
        mine = np.frombuffer(pickle.dumps(value), np.uint8)
        counts = np.empty(self.size, np.int64)
        self._wait(self.comm.Iallgather(np.array([mine.size]), counts))
        places = np.concatenate([[0], np.cumsum(counts)])
        block = np.empty(places[-1], np.uint8)
        self._wait(self.comm.Iallgatherv(mine, [block, (counts, places[:-1])]))
        return [  # see first: another rank's words, and nobody else's
            pickle.loads(block[a:b].tobytes())
            for a, b in zip(places[:-1], places[1:], strict=True)
        ]

    def by_the_first(self, work: Callable[[], Value]) -> Value:
        """Let rank 0 do something for all; return what it returned, or raise what it raised."""
        done: tuple[Any, Exception | None] = None, None
        if self.rank == 0:
            try:
                done = work(), None
            except Exception as error:
                done = None, error
        result, failed = self.first(done)
        if failed is not None:
            raise failed
        return result

    def in_turn(self, work: Callable[[], Value]) -> Value:
        """Let every rank do something, and return its own result: the first ones by themselves.

        Rank 0 is the first, then comes a rank of each other machine, then all others: what one has
        downloaded, those after it find. While a rank is at work the others wait for it, however
        long that is. If one fails, all raise its error.
        """
        result: Any = None
        for turn in range(3):
            failed = ""
            if turn == self._turn:
                try:
                    with self._at_work():
                        result = work()
                except TinyshuffleError as error:
                    where = f"rank {self.rank} ({socket.gethostname()}): " if self.rank else ""
                    failed = f"{where}{error}"
            for sentence in self.all(failed):
                if sentence:
                    raise TinyshuffleError(sentence)
        self._heard()
        return result

    def check_alike(self, same: dict[str, Any], cpu: str) -> list[str]:
        """Refuse ranks that differ in something; return sentences on what changes last bits alone.

        Parameters
        ----------
        same : dict
            By name: what has to be the same on all ranks, such as the data's checksum.
        cpu : str
            The processor.

        Raises
        ------
        TinyshuffleError
            Names what differs, and the rank.
        """
        everybody = self.all((same, cpu, socket.gethostname()))
        first, first_cpu, _ = everybody[0]
        notes = []
        for rank, (theirs, other, host) in enumerate(everybody):
            for name, value in theirs.items():
                if value != first[name]:
                    raise TinyshuffleError(
                        f"rank {rank} ({host}) differs from rank 0 in its {name} ({value}, not "
                        f"{first[name]}): let all ranks have the same"
                    )
            if other != first_cpu:
                notes.append(
                    f"rank {rank} ({host}) runs on {other}, and rank 0 on {first_cpu}: the last "
                    "bits of their weights may drift apart"
                )
        return notes

    # ---- waiting

    def _wait(self, request: Any) -> None:
        """Wait for a message, or name the rank that does not send it."""
        test, spins, late = request.Test, 0, 0.0
        while not test():
            spins += 1
            if spins % _SPINS == 0:
                _let_others_run()
                now = time.monotonic()
                late = late or now + self.patience
                if now > late:
                    if not self._heard():
                        self._give_up()
                    late = now + self.patience

    @contextmanager
    def _at_work(self) -> Iterator[None]:
        """Let the others hear that this rank is at work by itself, as long as it gets on.

        A thread says so, for as long as the process uses the processor: what hangs does not.
        """
        from mpi4py import MPI

        others = [k for k in range(self.size) if k != self.rank]
        if not others or MPI.Query_thread() < MPI.THREAD_SERIALIZED:
            yield
            return
        done, sent = threading.Event(), list[Any]()

        def say() -> None:
            used = time.process_time()
            while not done.wait(self.patience / 4):
                before, used = used, time.process_time()
                if used - before > _LEAST:
                    sent.extend(self._asking.isend(None, k, _AT_WORK) for k in others)

        thread = threading.Thread(target=say, daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()

    def _heard(self) -> bool:
        """Whether a rank has said, since this was asked last, that it is at work."""
        from mpi4py import MPI

        heard = False
        while self._asking.Iprobe(MPI.ANY_SOURCE, _AT_WORK):
            self._asking.recv(source=MPI.ANY_SOURCE, tag=_AT_WORK)
            heard = True
        return heard

    def _give_up(self) -> None:
        """Find out which rank is silent, say so, and end all of them."""
        from mpi4py import MPI

        here = f"rank {self.rank} ({socket.gethostname()})"
        said = here.encode()
        others = [k for k in range(self.size) if k != self.rank]
        sent = [self._asking.isend(said, k, _ASKED) for k in others]
        heard, end = {self.rank}, time.monotonic() + _GRACE
        while time.monotonic() < end:
            status = MPI.Status()
            if self._asking.Iprobe(MPI.ANY_SOURCE, _ASKED, status):
                heard.add(status.Get_source())
                self._asking.recv(source=status.Get_source(), tag=_ASKED)
            else:
                time.sleep(0.01)
        silent = [k for k in range(self.size) if k not in heard]
        del sent
        if min(heard) != self.rank:  # which says it and ends all
            time.sleep(2 * _GRACE)
        if min(heard) == self.rank:
            who = f"rank {', '.join(map(str, silent))}" if silent else "another rank"
            print(
                f"Error: {who} has said nothing for {self.patience:g} s, so all {self.size} ranks "
                "end: look at its machine, and continue from the last checkpoint with --resume",
                file=sys.stderr, flush=True,
            )  # fmt: skip
        self._end(1)

    def speak_for_myself(self) -> None:
        """Send the process away that would speak if this one were killed."""
        other, self.speaker = self.speaker, None
        if other is not None:
            other.communicate(b"alive")

    def _end(self, code: int) -> None:
        from mpi4py import MPI

        self.speak_for_myself()
        sys.stderr.flush()
        time.sleep(_FORWARDED)
        MPI.COMM_WORLD.Abort(code)
        os._exit(code)  # where MPI only asks for the end

    def fails_alone(self) -> bool:
        """Tell whether only this rank has failed; ranks that fail alike all come here."""
        request, end = self._asking.Ibarrier(), time.monotonic() + 2.0
        while not request.Test():
            if time.monotonic() > end:
                return True
            time.sleep(0.01)
        return False

    def end_all(self, sentence: str) -> None:
        """Say why, and end every rank."""
        where = f"rank {self.rank} ({socket.gethostname()})"
        print(f"Error: {where}: {sentence}", file=sys.stderr, flush=True)
        self._end(1)

    def _buffer(self, which: int, n: int, dtype: np.dtype) -> np.ndarray:
        """Memory that stays: MPI registers it with the network once."""
        held = self._buffers.get(which)
        nbytes = n * dtype.itemsize
        if held is None or held.nbytes < nbytes:
            held = self._buffers[which] = np.empty(nbytes, np.uint8)
        return held[:nbytes].view(dtype)


def _allowed() -> set[int]:
    """The cores on which this process may run."""
    if hasattr(os, "sched_getaffinity"):
        return os.sched_getaffinity(0)
    return set(range(os.cpu_count() or 1))
