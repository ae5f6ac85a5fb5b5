"""One thread computes; what waits for the same run and has the same shape goes through the encoder together."""

import contextlib
import dataclasses
import math
import queue
import threading
from collections.abc import Callable, Generator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import torch

from avpea.media import Clip, Film, film
from avpea.model import AVModel
from avpea.predict import Predictor, VideoView
from avpea.serve.work import Piece
from avpea.tasks import Encoded, Window

__all__ = ["Engine", "ServedPredictor"]

Result = TypeVar("Result")
AHEAD = 4  # windows of one video that wait together


@dataclass(eq=False)
class _Asked:
    """A window that is to be encoded, or a function that is to be called; equal to itself alone."""

    model: AVModel | None = None
    window: Window | None = None
    call: Callable[[], Any] | None = None
    wanted: Callable[[], bool] = lambda: True
    future: Future[Any] = field(default_factory=Future)

    @property
    def key(self) -> tuple[Any, ...]:
        assert self.window is not None
        return id(self.model), self.window.frames.shape, self.window.log_mel.shape


class Engine:
    """Computes in one thread, in the order of asking, except that what fits into a batch comes along.

    Nothing waits for a batch to fill: it is made of what came while the one before was computed.

    Args:
        most: Windows in a batch.
        told: Called with the size of each batch.
    """

    def __init__(self, most: int = 8, told: Callable[[int], None] = lambda size: None) -> None:
        self._most, self._told = most, told
        self._queue: queue.SimpleQueue[_Asked | None] = queue.SimpleQueue()
        self._waiting: list[_Asked] = []
        self._thread = threading.Thread(target=self._work, name="engine", daemon=True)
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether it computes."""
        return self._thread.is_alive()

    def encode(self, model: AVModel, window: Window, wanted: Callable[[], bool]) -> "Future[Encoded]":
        """The tokens of a window, soon; cancelled if they are no longer wanted by then."""
        asked = _Asked(model, window, wanted=wanted)
        self._queue.put(asked)
        return asked.future

    def call(self, function: Callable[[], Result]) -> Result:
        """What a function returns that is called while nothing else is computed, in inference mode."""
        asked = _Asked(call=function)
        self._queue.put(asked)
        result: Result = asked.future.result()
        return result

    def close(self) -> None:
        """End when what was asked for is done."""
        self._queue.put(None)
        self._thread.join(30)

    @torch.inference_mode()
    def _work(self) -> None:
        while True:
            self._gather()
            if not self._waiting:
                return
            first = self._waiting.pop(0)
            if first.call is not None:
                _fulfil(first.future, first.call)
                continue
            batch = [first, *(one for one in self._waiting if one.window is not None and one.key == first.key)]
            batch = batch[: self._most]
            self._waiting = [one for one in self._waiting if one not in batch]
            self._encode([one for one in batch if one.wanted() or not one.future.cancel()])

    def _gather(self) -> None:
        """Take what was asked for; wait if nothing was."""
        while True:
            try:
                found = self._queue.get(block=not self._waiting)
            except queue.Empty:
                return
            if found is None:
                self._queue.put(None)
                return
            self._waiting.append(found)

    def _encode(self, batch: list[_Asked]) -> None:
        if not batch:
            return
        self._told(len(batch))
        try:
            for one, found in zip(batch, _encoded(batch), strict=True):
                one.future.set_result(found)
        except Exception as error:
            if len(batch) == 1:
                batch[0].future.set_exception(error)
                return
            for one in batch:  # one of them may be to blame, or they are too many together
                self._encode([one])


def _encoded(batch: list[_Asked]) -> list[Encoded]:
    """The tokens of each window."""
    model, windows = batch[0].model, [one.window for one in batch if one.window is not None]
    assert model is not None
    whole = model.encode(*(torch.cat([getattr(one, name) for one in windows]) for name in ("frames", "log_mel")))
    if len(batch) == 1 or whole.visual is None or whole.audio is None:
        return [whole] * len(batch)
    parts = zip(whole.visual.chunk(len(batch)), whole.audio.chunk(len(batch)), strict=True)
    return [dataclasses.replace(whole, visual=seen, audio=heard) for seen, heard in parts]


def _fulfil(future: "Future[Any]", function: Callable[[], Any]) -> None:
    try:
        future.set_result(function())
    except BaseException as error:
        future.set_exception(error)


@dataclass(frozen=True)
class _ServedView(VideoView):
    """A view whose windows are encoded by the engine, and that tells how far it is.

    Attributes:
        engine: The engine.
        piece: The work that it is for.
        seconds: Length of the video, as far as it is known.
    """

    engine: Engine
    piece: Piece
    seconds: float
    futures: dict[tuple[int, int], "Future[Encoded]"] = field(default_factory=dict)

    def whole(self) -> Clip | Film:
        # A film has a decoder of its own while it is used; what is a single part of one goes through the common ones.
        if 0 < self.seconds <= film.PART_SECONDS:
            with self.piece.decoding(self.seconds):
                return super().decoded()
        return super().whole()

    def spread(self) -> Clip:
        with self.piece.decoding(self.seconds):
            return super().spread()

    def windows(self, clip: Clip | Film) -> Generator[Window, None, None]:
        # The length of a film is known at its end; what its file declares does for telling how far this is.
        seconds = self.seconds if isinstance(clip, Film) else len(clip.frames)
        about = math.ceil(seconds / self.experiment.data.segments)
        ahead: list[Window] = []
        number = 0
        # A failure keeps its traceback, and by it this generator; a film would wait on.
        with contextlib.closing(self._cut(clip)) as found:
            for window in found:
                ahead.append(window)
                self._ask(window)
                if len(ahead) > AHEAD:
                    yield self._next(ahead, number, max(about, number + len(ahead)))
                    number += 1
        total = number + len(ahead)
        for done in range(number, total):
            yield self._next(ahead, done, total)

    def _cut(self, clip: Clip | Film) -> Generator[Window, None, None]:
        """The windows of a clip; decoding a film ends when nobody waits any more."""
        if isinstance(clip, Clip):
            yield from super().windows(clip)
            return
        with contextlib.closing(super().windows(clip)) as found:
            with self.piece.decoding(self.seconds):  # it begins with the first window, and is watched to its end
                window = next(found, None)
            while window is not None:
                yield window
                window = next(found, None)

    def encode(self, window: Window) -> Encoded:
        found = self._ask(window).result()
        self.futures.pop((window.start, window.stop), None)
        return found

    def run(self, window: Window, targets: Any = None) -> Any:
        asked = None if targets is None else targets.to(self.model.device)
        return self.model.task(self.encode(window), asked)

    def _next(self, ahead: list[Window], done: int, total: int) -> Window:
        self.piece.require_wanted()
        self.piece.tell("window", done, total)
        return ahead.pop(0)

    def _ask(self, window: Window) -> "Future[Encoded]":
        key = window.start, window.stop
        if key not in self.futures:
            self.futures[key] = self.engine.encode(self.model, window, lambda: not self.piece.unwanted)
        return self.futures[key]


class ServedPredictor(Predictor):
    """A predictor for one piece of work, whose windows are encoded together with those of others.

    Args:
        predictor: The predictor of the run.
        engine: The engine.
        piece: The work.
        seconds: Length of the video, as far as it is known.
    """

    def __init__(self, predictor: Predictor, engine: Engine, piece: Piece, seconds: float) -> None:
        super().__init__(predictor.model, predictor.info)
        self._engine, self._piece, self._seconds = engine, piece, seconds

    def encode(self, window: Window) -> Encoded:
        """The tokens of a window, by the engine."""
        return self._engine.encode(self.model, window, lambda: not self._piece.unwanted).result()

    def view(self, video: Path, reading: Mapping[str, Any]) -> VideoView:
        """How the model looks at a video."""
        experiment = self.info.experiment
        return _ServedView(video, self.model, experiment, reading, self._engine, self._piece, self._seconds)
