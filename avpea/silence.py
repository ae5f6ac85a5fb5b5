"""A sign of life from each process of a training, so that one that falls silent does not keep the others waiting.

A machine that loses its power or its network closes no connection, and nor does a process that is stopped: the others
would wait for it. So each counts up a number of its own in torch's store every few seconds, from a thread, whatever it
is computing, and looks at the numbers of the others.
"""

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any

from avpea.distributed import World
from avpea.errors import AvpeaError, TrainingError

__all__ = ["ended_by_silence"]

_EVERY_SECONDS = 5.0
_LEFT = 2**40  # is added to the number of a process that ends


@contextmanager
def ended_by_silence(here: World, most_seconds: float, tell: Callable[[AvpeaError], object]) -> Iterator[None]:
    """In this block, end this process when another one gives no sign of life.

    Its main thread waits inside of torch then, where no exception reaches it. So it ends as by a kill, after which the
    same command goes on from the last saved state.

    Args:
        here: This process among the others.
        most_seconds: How long another one may be silent; 0 waits for it.
        tell: Told which one it was, before the end.
    """
    if here.alone or not most_seconds:
        yield
        return
    watch = Watch(here, most_seconds, lambda sentence: _end(sentence, tell))
    watch.start()
    try:
        yield
    finally:
        watch.stop()


def _end(sentence: str, tell: Callable[[AvpeaError], object]) -> None:
    tell(TrainingError(sentence))
    time.sleep(_EVERY_SECONDS + 1)  # in which the others find out by themselves, and not from the end of this one
    os._exit(1)


class Watch:
    """Counts up the number of this process, and watches those of the others.

    Args:
        here: This process among the others.
        most_seconds: How long another one may be silent.
        found: Called, once, with a sentence about the one that was silent for longer.
        where: Address and port of torch's store; those that the launcher gives, unless they are given.
    """

    def __init__(
        self,
        here: World,
        most_seconds: float,
        found: Callable[[str], object],
        where: tuple[str, int] | None = None,
    ) -> None:
        self.here, self.most_seconds, self.found = here, most_seconds, found
        self.where = where or (os.environ.get("MASTER_ADDR", ""), int(os.environ.get("MASTER_PORT", "0")))
        self._every = min(_EVERY_SECONDS, most_seconds / 4)
        self._stopped = threading.Event()
        self._heard = dict.fromkeys(range(here.size), 0)  # numbers of the processes
        self._names = dict[int, str]()  # of their machines
        self._rounds = 0  # how often all of them were read
        # Two threads, as the store may be the one that does not answer.
        self._threads = [threading.Thread(target=one, daemon=True) for one in (self._beat, self._look)]

    def start(self) -> None:
        """Begin, without waiting for the others."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Take leave of the others, as far as the store answers."""
        self._stopped.set()
        self._threads[0].join(timeout=self._every)

    def _beat(self) -> None:
        with suppress(RuntimeError, ValueError):  # a connection that breaks is found by whoever works with the others
            store = self._store()
            store.set(f"name-{self.here.rank}", socket.gethostname())
            while not self._stopped.wait(self._every):
                store.add(f"life-{self.here.rank}", 1)
                for rank in self._heard:
                    self._heard[rank] = store.add(f"life-{rank}", 0)
                    if self._heard[rank] and rank not in self._names:
                        self._names[rank] = store.get(f"name-{rank}").decode()
                self._rounds += 1
            store.add(f"life-{self.here.rank}", _LEFT)

    def _store(self) -> Any:
        """A connection of its own: on a shared one, this would wait while another thread waits for a key."""
        import torch.distributed as dist

        address, port = self.where
        timeout = timedelta(seconds=max(self.most_seconds, 60.0))
        store = dist.TCPStore(address, port, is_master=False, timeout=timeout)  # type: ignore[attr-defined]
        attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
        return dist.PrefixStore(f"avpea-signs-{attempt}", store)  # type: ignore[attr-defined]

    def _look(self) -> None:
        last, silent = dict(self._heard), dict.fromkeys(self._heard, 0.0)
        rounds, unanswered = 0, 0.0
        before = time.monotonic()
        while not self._stopped.wait(self._every):
            now = time.monotonic()
            # More has passed only if this process was stopped, or its computer asleep, and then the others may have
            # been, too.
            passed, before = min(now - before, 2 * self._every), now
            if self._rounds == rounds:
                unanswered += passed * (rounds > 0)
                if unanswered > self.most_seconds:
                    self.found(self._sentence(f"{self._keeper()} at {self.where[0]}"))
                    return
                continue
            rounds, unanswered = self._rounds, 0.0
            for rank, number in self._heard.items():
                quiet = number == last[rank] and 0 < number < _LEFT
                silent[rank], last[rank] = silent[rank] + passed if quiet else 0.0, number
                if silent[rank] > self.most_seconds:
                    self.found(self._sentence(f"Process {rank} of {self.here.size} on {self._names[rank]}"))
                    return

    def _keeper(self) -> str:
        """Who keeps the store."""
        of_launcher = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
        return "The launcher" if of_launcher else f"Process 0 of {self.here.size}"

    def _sentence(self, who: str) -> str:
        return (
            f"{who} has given no sign of life for {self.most_seconds:g} seconds, so its machine, the network or the "
            "process has stopped; the same command goes on from the last saved state."
        )
