"""`Prefetcher`: an iterator that a thread runs ahead of its consumer."""

from __future__ import annotations

import atexit
import contextvars
import threading
from collections.abc import Iterator
from queue import SimpleQueue
from typing import Any, Final, Generic, TypeVar

T = TypeVar("T")


class _Item(Generic[T]):
    """What passes from the thread to the consumer: a value or, last of all, an error or the end."""

    __slots__ = ("error", "last", "value")

    def __init__(
        self, value: T | None = None, error: BaseException | None = None, last: bool = False
    ) -> None:
        self.value = value
        self.error = error
        self.last = last


class _Channel(Generic[T]):
    """What the thread and the consumer share.

    The thread holds this and never the `Prefetcher`, so that dropping that ends the thread. `SimpleQueue.put`
    may be called from a destructor, which may run in either thread at any moment; a lock of our own could not.
    """

    def __init__(self, depth: int) -> None:
        self.items: SimpleQueue[_Item[T]] = SimpleQueue()
        self.permits: SimpleQueue[None] = SimpleQueue()
        self.stopped = False
        for _ in range(depth):
            self.permits.put(None)

    def stop(self) -> None:
        self.stopped = True
        self.permits.put(None)  # wakes the thread where it waits for one


_running: Final[dict[_Channel[Any], threading.Thread]] = {}


@atexit.register
def _stop_all() -> None:
    """Stop the threads before the interpreter goes; one that is stuck in a user's function is left behind."""
    running = list(_running.items())
    for channel, _ in running:
        channel.stop()
    for _, thread in running:
        thread.join(timeout=5)


def _produce(channel: _Channel[T], source: Iterator[T]) -> None:
    _running[channel] = threading.current_thread()
    try:
        while True:
            channel.permits.get()
            if channel.stopped:
                channel.items.put(_Item(last=True))
                return
            try:
                item = _Item(next(source))
            except StopIteration:
                item = _Item(last=True)
            last = item.last
            channel.items.put(item)
            del item  # the consumer's now
            if last:
                return
    except BaseException as error:
        channel.items.put(_Item(error=error, last=True))
    finally:
        _running.pop(channel, None)


class Prefetcher(Iterator[T]):
    """The values of ``source``, made in a thread that runs at most ``depth`` values ahead.

    An error in ``source`` is raised by `__next__` after the values before it. The thread ends with the
    source, after an error, on `stop` or `close`, and when the prefetcher is dropped; then it finishes only
    the value that it is making. It sees the context variables of the thread that made the prefetcher.

    Args:
        source: an iterator, which belongs to the thread from now on.
        depth: how many values may be ready or in the making, at least 1.
    """

    def __init__(self, source: Iterator[T], depth: int) -> None:
        self._channel: _Channel[T] = _Channel(depth)
        self._thread = threading.Thread(
            target=contextvars.copy_context().run,
            args=(_produce, self._channel, source),
            name="plugrad-prefetch",
            daemon=True,  # or a prefetcher still referenced at exit would keep the interpreter waiting
        )
        self._thread.start()

    def __next__(self) -> T:
        if self._channel.stopped:
            raise StopIteration
        item = self._channel.items.get()
        if not item.last:
            self._channel.permits.put(None)
            return item.value  # type: ignore[return-value]  # None only where T has None
        self.stop()
        if item.error is None:
            raise StopIteration
        try:
            raise item.error
        finally:
            del item  # error -> traceback -> this frame -> item -> error would be a cycle

    def stop(self) -> None:
        """Let the thread end after the value that it is making; nothing more comes out."""
        self._channel.stop()

    def close(self) -> None:
        """`stop`, and wait until the thread has ended."""
        self.stop()
        if self._thread is not threading.current_thread():
            self._thread.join()

    def __del__(self) -> None:
        self.stop()
