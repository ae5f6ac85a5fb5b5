"""Several processes that train one model: each takes its share of every batch, and all end with the same weights.

The processes are those that torch's launchers start (`torchrun`, or `avpea train --train.devices N`), which give each
its `RANK`, `LOCAL_RANK` and `WORLD_SIZE`. With a single process everything here returns what it is given.

A batch is what it is with a single process. A process whose share of a batch is empty computes a sample of another
share all the same, as all have to take part in what they compute together, but it counts for nothing: such a process is
absent from that batch.
"""

import itertools
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

from avpea.errors import AvpeaError, ExperimentError

__all__ = [
    "Meeting",
    "OthersEnded",
    "World",
    "add_up",
    "agreed",
    "apart",
    "everyones",
    "from_first",
    "gathered",
    "joined",
    "launched",
    "mean_of",
    "meet",
    "own_share",
    "prepared",
    "share",
    "total",
    "wait",
    "world",
]

Item = TypeVar("Item")
_PATIENCE = timedelta(minutes=30)  # for the first process, which may write much while the others wait
_LAST_WORDS = "avpea-last-words"
_numbers = itertools.count()


@dataclass
class World:
    """The processes that train together, as one of them sees them.

    Attributes:
        rank: Number of this process, from 0.
        size: Number of processes.
        local_rank: Number of this process among those of its machine.
        global_statistics: Whether BatchNorm takes its statistics over the batches of all processes.
        weight: Share of this process in the answers of the current batch; 0 if it is absent.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    global_statistics: bool = True
    weight: float = field(default=1.0, compare=False)

    @property
    def alone(self) -> bool:
        """Whether there is a single process."""
        return self.size == 1

    @property
    def first(self) -> bool:
        """Whether this is the process that writes files and tells the user."""
        return self.rank == 0

    @property
    def present(self) -> bool:
        """Whether this process has a share of the current batch."""
        return self.weight > 0


class OthersEnded(AvpeaError):
    """Another process has ended, so that this one cannot go on."""


_ALONE = World()
_current = _ALONE


def world() -> World:
    """The processes that train together now."""
    return _current


def launched() -> World:
    """What a launcher's environment variables say: a world of one without them.

    Raises:
        ExperimentError: They contradict each other.
    """
    names = "RANK", "WORLD_SIZE", "LOCAL_RANK"
    try:
        size = int(os.environ.get("WORLD_SIZE", "1"))
        rank = int(os.environ.get("RANK", "0"))
        local = int(os.environ.get("LOCAL_RANK", str(rank)))
    except ValueError:
        size = rank = local = -1
    if not 0 <= rank < size or local < 0:
        given = ", ".join(f"{name}={os.environ[name]}" for name in names if name in os.environ)
        raise ExperimentError(f"The launcher's variables are {given}; expected RANK from 0 to WORLD_SIZE - 1.")
    return World(rank, size, local)


@dataclass(frozen=True)
class Meeting:
    """Where the processes leave word for each other, also when one of them ends.

    Attributes:
        here: This process among the others.
        store: torch's store of keys and values, which the launcher or the first process keeps; None without others, or
            if the program that calls has connected them already.
    """

    here: World
    store: Any = None

    def leave(self, error: AvpeaError) -> None:
        """Leave word why this process ends, unless another one has done so before."""
        if self.store is not None and not isinstance(error, OthersEnded):
            with suppress(RuntimeError):  # whoever keeps the store may have ended before
                words = f"Process {self.here.rank} of {self.here.size} has ended: {error}"
                self.store.compare_set(_LAST_WORDS, "", words)

    def last_words(self) -> str:
        """Why another process has ended, as far as it could say it."""
        with suppress(RuntimeError):
            if self.store is not None and self.store.check([_LAST_WORDS]):
                return str(self.store.get(_LAST_WORDS).decode())
        return "Another process of this training has ended; its own message says why."


def meet(here: World) -> Meeting:
    """Find the other processes; without others, do nothing.

    Raises:
        ExperimentError: They cannot be reached.
    """
    import torch.distributed as dist

    if here.alone or dist.is_initialized():
        return Meeting(here)
    try:
        found = dist.rendezvous("env://", here.rank, here.size, timeout=_PATIENCE)  # type: ignore[attr-defined]
        store, _, _ = next(found)
    except (ValueError, RuntimeError) as error:  # dist's errors are RuntimeErrors
        raise _unreachable(here, error) from None
    return Meeting(here, store)


def _unreachable(here: World, error: Exception) -> ExperimentError:
    reason = " ".join(str(error).split())[:200]
    return ExperimentError(
        f"This is process {here.rank} of {here.size} (RANK, WORLD_SIZE), but the others cannot be reached "
        f"({reason}); start it with `torchrun --nproc_per_node {here.size} -m -- avpea train RECIPE`, or "
        "with --train.devices."
    )


@contextmanager
def prepared(meeting: Meeting) -> Iterator[None]:
    """In this block each process prepares by itself; if that fails in one, it fails in all, each with the reason.

    Raises:
        OthersEnded: It has failed in another one.
    """
    if meeting.here.alone:
        yield
        return
    with joined(meeting, torch.device("cpu")):
        failure: AvpeaError | None = None
        try:
            yield
        except AvpeaError as error:
            failure = error
            meeting.leave(error)
        failed = any(everyones(failure is not None))
        if failure is not None:
            raise failure
        if failed:
            raise OthersEnded(meeting.last_words())


@contextmanager
def joined(meeting: Meeting, device: torch.device) -> Iterator[World]:
    """Work with the other processes in this block; without others, do nothing.

    Args:
        meeting: Where they meet.
        device: Device of this process; on CUDA, NCCL connects them, else gloo.

    Raises:
        ExperimentError: The others cannot be reached.
        OthersEnded: Another process has ended; says why, if it could say it.
    """
    global _current
    here = meeting.here
    if here.alone:
        yield here
        return
    import torch.distributed as dist

    own = not dist.is_initialized()
    if own:
        _connect(meeting, "nccl" if device.type == "cuda" else "gloo")
    before, _current = _current, here
    try:
        yield here
    except RuntimeError as error:
        if not _of_connection(error):
            raise
        raise OthersEnded(meeting.last_words()) from None
    except AvpeaError as error:
        meeting.leave(error)
        raise
    finally:
        _current = before
        if own:
            dist.destroy_process_group()


def _connect(meeting: Meeting, backend: str) -> None:
    import torch.distributed as dist

    here = meeting.here
    # A name of its own for each group, as the store keeps what earlier ones wrote.
    store = dist.PrefixStore(f"avpea-{next(_numbers)}", meeting.store)  # type: ignore[attr-defined]
    try:
        dist.init_process_group(backend, store=store, rank=here.rank, world_size=here.size, timeout=_PATIENCE)
    except (ValueError, RuntimeError) as error:
        raise _unreachable(here, error) from None


def _of_connection(error: RuntimeError) -> bool:
    import torch.distributed as dist

    words = ("Connection closed by peer", "Connection reset by peer", "gloo", "Broken pipe", "Timed out waiting")
    return isinstance(error, dist.DistError) or any(word in str(error) for word in words)


@contextmanager
def apart() -> Iterator[None]:
    """In this block, each process computes for itself."""
    global _current
    before, _current = _current, _ALONE
    try:
        yield
    finally:
        _current = before


def own_share(items: Sequence[Item]) -> Sequence[Item]:
    """The share of this process in a batch: consecutive items, as many as in any other share or one more.

    An absent process, which has none, gets the first item.
    """
    first, last = _bounds(len(items))
    return items[first:last] or items[:1]


def _bounds(items: int) -> tuple[int, int]:
    """Where the share of this process in a batch begins and ends; both are the same for an absent process."""
    return items * _current.rank // _current.size, items * (_current.rank + 1) // _current.size


@contextmanager
def share(own: float, of: float, items: int) -> Iterator[float]:
    """While a batch is computed: the weight of this process's share of it.

    Args:
        own: Number of answers in the share.
        of: Number of answers in the batch.
        items: Number of samples in the batch.
    """
    here = _current
    first, last = _bounds(items)
    before, here.weight = here.weight, own / of if last > first else 0.0
    try:
        yield here.weight
    finally:
        here.weight = before


class _Total(torch.autograd.Function):
    """The sum over processes; its gradient is the sum of their gradients."""

    @staticmethod
    def forward(_: Any, value: Tensor) -> Tensor:
        return _sum(value)

    @staticmethod
    def backward(_: Any, gradient: Tensor) -> Tensor:
        return _sum(gradient)


def _sum(value: Tensor) -> Tensor:
    import torch.distributed as dist

    value = value.contiguous().clone()
    dist.all_reduce(value)
    return value


def total(value: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """The sum over all processes that have a share of the batch; gradients flow back to each."""
    if _current.alone:
        return value
    added: Tensor = _Total.apply(value if _current.present else value * 0)
    return added


def mean_of(added: Float[Tensor, ""], count: Tensor) -> Float[Tensor, ""]:
    """A sum over answers, divided by their number: the mean over the batches of all processes, for a loss.

    A loss is later weighted by the share that this process has of the batch (`share`), which is right for means over
    all of its samples. Here the number is another one, such as that of windows with an event.

    Args:
        added: The sum.
        count: Number of its terms; if there are none, the mean is 0.
    """
    if _current.alone:
        return added / count.clamp(min=1)
    everywhere = total(count.to(added.dtype).detach()).clamp(min=1)
    return added / everywhere / _current.weight if _current.present else added * 0


def gathered(rows: Float[Tensor, "rows ..."]) -> tuple[Float[Tensor, "all_rows ..."], int]:
    """The rows of all processes, in their order, and the index of the first one of this process.

    Gradients flow back to the process that a row came from. Rows may be of different lengths (dimension 1, such as a
    number of words) and are zero-padded to the longest. An absent process adds none.
    """
    here = _current
    if here.alone:
        return rows, 0
    own = len(rows) if here.present else 0
    shapes = everyones((own, rows.shape[1] if rows.ndim > 1 else 0))
    counts, longest = [count for count, _ in shapes], max(length for _, length in shapes)
    first = sum(counts[: here.rank])
    if rows.ndim > 1 and rows.shape[1] < longest:
        rows = torch.cat((rows, rows.new_zeros(len(rows), longest - rows.shape[1], *rows.shape[2:])), dim=1)
    before = rows.new_zeros(first, *rows.shape[1:])
    after = rows.new_zeros(sum(counts) - first - own, *rows.shape[1:])
    return total(torch.cat((before, rows[:own], after))), first


def everyones(value: Item) -> list[Item]:
    """The values of all processes, in their order."""
    if _current.alone:
        return [value]
    import torch.distributed as dist

    found: list[Any] = [None] * _current.size
    dist.all_gather_object(found, value)
    return found


def from_first(value: Item) -> Item:
    """The value of the first process."""
    if _current.alone:
        return value
    import torch.distributed as dist

    found = [value]
    dist.broadcast_object_list(found, src=0)
    return found[0]


def agreed(tensors: Sequence[Tensor]) -> None:
    """Replace tensors by those of the first process."""
    if _current.alone:
        return
    import torch.distributed as dist

    for tensor in tensors:
        dist.broadcast(tensor, src=0)


def add_up(tensors: Sequence[Tensor]) -> None:
    """Replace tensors by their sums over all processes, in one exchange for each type."""
    if _current.alone:
        return
    for kind in dict.fromkeys(tensor.dtype for tensor in tensors):  # in one order everywhere
        some = [tensor for tensor in tensors if tensor.dtype == kind]
        together = _sum(torch.cat([tensor.flatten() for tensor in some]))
        for tensor, part in zip(some, torch.split(together, [one.numel() for one in some]), strict=True):
            tensor.copy_(part.view_as(tensor))


def wait() -> None:
    """Wait until all processes are here."""
    if not _current.alone:
        import torch.distributed as dist

        dist.barrier()
