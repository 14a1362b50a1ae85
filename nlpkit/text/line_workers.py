"""Blocks of lines done by several processes, in order: the parent reads and writes, forked workers do the work.

A worker is sent a block and sends back what became of it, as plain bytes. It ends when its pipe does, so none is
left behind by a parent that ends, however it ends.
"""

import mmap
import os
import struct
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import astuple, fields
from multiprocessing.connection import Connection
from queue import SimpleQueue
from typing import Any

from nlpkit import errors as failures
from nlpkit.errors import NlpkitError
from nlpkit.text.blocks import Block
from nlpkit.text.documents import Counts

#: ``work(block, name, errors, counts)``: a block of a source as output, and its number of lines.
Work = Callable[[Block, str, str, Counts], tuple[bytes, int]]
_ASK = struct.Struct("<q q")  # lines before the block, bytes of the header (name and errors)
_ANSWER = struct.Struct(f"<b q {len(fields(Counts))}q")  # whether it went well, lines, and the counts
_DONE, _REFUSED, _FAILED = range(3)
_SIZE = struct.Struct("<q")  # bytes in the shared memory; -1: they follow in the pipe
_ROOM = 1 << 24  # bytes of it, of which what is never used takes no memory


def processors() -> int:
    """The processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def can_fork() -> bool:
    """Whether processes can be forked here; elsewhere one process does all."""
    return hasattr(os, "fork")


class _Channel:
    """Bytes to a process and back, one message at a time.

    They go through memory that both see, where they fit: a pipe would copy them into the kernel and out of it, in
    pieces, and one process that feeds several would do little else.
    """

    def __init__(self, end: Connection, memory: mmap.mmap) -> None:
        self.end, self.memory = end, memory

    def send(self, *parts: bytes) -> None:
        """Send the parts as one message; the last one must have been answered."""
        size = sum(map(len, parts))
        if size > _ROOM:
            self.end.send_bytes(_SIZE.pack(-1))
            self.end.send_bytes(b"".join(parts))
            return
        at = 0
        for part in parts:
            self.memory[at : at + len(part)] = part
            at += len(part)
        self.end.send_bytes(_SIZE.pack(size))

    def receive(self) -> memoryview:
        """The next message, to be read before one is sent. EOFError: the other process has ended."""
        (size,) = _SIZE.unpack(self.end.recv_bytes())
        return memoryview(self.end.recv_bytes() if size < 0 else self.memory)[: size if size >= 0 else None]


class Workers:
    """``jobs`` forked processes that do ``work``; :meth:`close` ends them."""

    def __init__(self, work: Work, jobs: int) -> None:
        from multiprocessing import get_context

        context: Any = get_context("fork")
        self._ends: list[_Channel] = []
        self._processes = []
        for _ in range(jobs):
            ours, theirs = context.Pipe()
            memory = mmap.mmap(-1, _ROOM)
            self._ends.append(_Channel(ours, memory))
            args = (work, _Channel(theirs, memory), self._ends)
            process = context.Process(target=_serve, args=args, daemon=True)
            process.start()
            theirs.close()
            self._processes.append(process)
        self._idle: SimpleQueue[_Channel] = SimpleQueue()
        for end in self._ends:
            self._idle.put(end)
        self._senders = ThreadPoolExecutor(jobs)

    def __call__(
        self, blocks: Iterable[Block], name: str, errors: str, counts: Counts
    ) -> Iterator[tuple[bytes, int]]:
        """What ``work`` makes of each block, in their order. A block with a remainder is not for workers.

        :raises NlpkitError: what the work raised, at its place in the order.
        """
        waiting: deque[Future[tuple[bytes, int, Counts]]] = deque()
        most = 2 * len(self._ends)
        for block in blocks:
            waiting.append(self._senders.submit(self._ask, block, name, errors))
            if len(waiting) >= most:
                yield _counted(waiting.popleft().result(), counts)
        while waiting:
            yield _counted(waiting.popleft().result(), counts)

    def _ask(self, block: Block, name: str, errors: str) -> tuple[bytes, int, Counts]:
        end = self._idle.get()
        header = f"{errors}\0{name}".encode("utf-8", "surrogateescape")
        assert isinstance(block.data, bytes)
        try:
            end.send(_ASK.pack(block.before, len(header)), header, block.data)
            answer = end.receive()
            state, lines, *counted = _ANSWER.unpack_from(answer)
            made = bytes(answer[_ANSWER.size :])
        except (EOFError, OSError) as error:
            raise NlpkitError(
                "a worker process ended before its work was done (out of memory?); try fewer with -j"
            ) from error
        finally:
            self._idle.put(end)
        if state != _DONE:
            kind, _, words = made.decode("utf-8", "replace").partition("\0")
            known = getattr(failures, kind, None)
            raise known(words) if state == _REFUSED and known else RuntimeError(f"{kind}: {words}")
        return made, lines, Counts(*counted)

    def close(self) -> None:
        """End the workers, whatever they are doing."""
        for process in self._processes:
            process.kill()
        for process in self._processes:
            process.join()
        self._senders.shutdown(cancel_futures=True)
        for channel in self._ends:
            channel.end.close()


def _counted(done: tuple[bytes, int, Counts], counts: Counts) -> tuple[bytes, int]:
    for name in (f.name for f in fields(Counts)):
        setattr(counts, name, getattr(counts, name) + getattr(done[2], name))
    return done[:2]


def _serve(work: Work, end: _Channel, others: list[_Channel]) -> None:
    """A worker's life: blocks in, output out, until the pipe ends."""
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    for other in others:  # or the pipes would not end with the parent
        other.end.close()
    try:
        while True:
            end.send(*_answer(work, end.receive()))
    except (EOFError, OSError):
        pass


def _answer(work: Work, asked: memoryview) -> tuple[bytes, bytes]:
    before, size = _ASK.unpack_from(asked)
    at = _ASK.size + size
    errors, _, name = bytes(asked[_ASK.size : at]).decode("utf-8", "surrogateescape").partition("\0")
    counts = Counts()
    try:
        made, lines = work(Block(bytes(asked[at:]), before), name, errors, counts)
    except Exception as error:
        state = _REFUSED if isinstance(error, NlpkitError) else _FAILED
        words = f"{type(error).__name__}\0{error}".encode("utf-8", "replace")
        return _ANSWER.pack(state, 0, *astuple(Counts())), words
    return _ANSWER.pack(_DONE, lines, *astuple(counts)), made
