"""Searching a library with a sentence or an example clip, by picture, by sound, or by both."""

import copy
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import platformdirs
import torch

from avpea.device import choose_device
from avpea.embeddings import Embeddings
from avpea.errors import AvpeaError, NoAudioTrack, NoVideoTrack, WriteError
from avpea.files import write_bytes
from avpea.media import MediaInfo, probe
from avpea.predict import Predictor, load
from avpea.progress import note
from avpea.search._candidates import Candidates
from avpea.search._index import about, named
from avpea.search._library import Library
from avpea.search._windows import BY, embedded, require_searchable

__all__ = ["Found", "Query", "search"]

CANDIDATES = 200
EXAMPLE_WINDOWS = 6


@dataclass(frozen=True)
class Found:
    """A window that was found.

    Attributes:
        score: Fine-grained similarity, from -1 to 1; higher is more similar.
        file: Path of the video.
        start_seconds: Start of the window.
        end_seconds: End of the window.
        thumbnail: Path of an image of its middle; None if the video has no picture, or the cache cannot be written to.
    """

    score: float
    file: str
    start_seconds: float
    end_seconds: float
    thumbnail: str | None

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return dict(vars(self))


class Query:
    """A library with its model, for many searches.

    Args:
        library: Folder or URL of the library.
        run: The run that indexed it, if it has moved: a run folder, checkpoint or hub repository.
        weights: The backbone's weights, if they have moved since training.
        audio_weights: VGGish's weights, if they have moved since training.
        device: Device to embed sentences and clips on; see `avpea.load`.
        trust: Whether to open the run that the library names, and what that names, although somebody else made them.
        predictor: The model of `run`, to share instead of loading it.

    Raises:
        AvpeaError: There is no library, another model indexed it, the run cannot be loaded, or somebody else made the
            library and no run is given.
        ExperimentError: There is no such device here.
    """

    def __init__(
        self, library: str | Path, run: str | Path | None = None, *, weights: str | Path | None = None,
        audio_weights: str | Path | None = None, device: str | torch.device = "auto", trust: bool = False,
        predictor: Predictor | None = None,
    ) -> None:  # fmt: skip
        choose_device(device)  # before anything is opened
        self.library = Library(library)
        source = run or self.library.about["run"]
        if run is None and not (self.library.own or trust):
            raise AvpeaError(
                f"The library {library} says that '{source}' made it, but it is not a library of yours; name the run "
                "yourself with --run RUN, or add trust=True if you trust whoever made it."
            )
        if run is None and not Path(source).exists() and Path(source).is_absolute():
            raise AvpeaError(f"The run {source} that made the library {library} is not there; say where with --run.")
        self.predictor: Predictor = predictor or load(
            source, weights=weights, audio_weights=audio_weights, device=device, trust=trust
        )
        self.task = require_searchable(self.predictor)
        self.library.require(about(self.predictor, source)["model"], str(source))

    def with_model(self, predictor: Predictor) -> "Query":
        """The same library with the same model, loaded anew."""
        query = copy.copy(self)
        query.predictor, query.task = predictor, require_searchable(predictor)
        return query

    @torch.inference_mode()
    def text(self, sentence: str, *, by: str = "both", top: int = 10) -> list[Found]:
        """The windows that match a sentence best.

        Args:
            sentence: A sentence in the language of the training captions.
            by: What to compare: `both`, `picture` or `sound`.
            top: Number of windows.

        Raises:
            AvpeaError: The sentence has no words, or none that the model knows, or it cannot search by `by`.
        """
        _require_known(by)
        with self.predictor.enough_memory():
            query = self.task.embed_text(sentence)
        if query is None:
            raise AvpeaError(f"The sentence {sentence!r} has no words.")
        return self._find([query], by, top)

    @torch.inference_mode()
    def example(self, video: str | Path, *, by: str = "both", top: int = 10) -> list[Found]:
        """The windows most similar to a clip (if it is long, to any of up to six windows spread over it).

        Of the clip the tracks are read that the library was indexed with.

        Raises:
            MediaError: The clip cannot be read.
            AvpeaError: The clip lacks the track that `by` compares, or the model cannot search by it.
        """
        _require_known(by)
        tracks = self.library.tracks
        try:
            info: MediaInfo = probe(video, **tracks)
            lacking = {"picture": not info.has_video, "sound": not info.has_audio}
            if lacking.get(by):
                raise AvpeaError(f"{video} has no {by}, so there is nothing to search by.")
            found = [window.embeddings(by) for window in embedded(self.predictor, Path(video), None, **tracks)]
        except (NoAudioTrack, NoVideoTrack) as error:
            if not tracks:
                raise
            raise type(error)(
                error.path, f"{error.reason} The library {self.library.place} is of {named(tracks)} of its files."
            ) from None
        queries = [one for one in found if one is not None]
        return self._find([queries[place] for place in spread_over(len(queries))], by, top)

    def _find(self, queries: Sequence[Embeddings], by: str, top: int) -> list[Found]:
        """The nearest windows by their pooled vectors, re-ranked by the fine-grained similarity of the loss."""
        if top < 1:
            raise AvpeaError(f"top is {top}; expected 1 or more.")
        if BY[by] not in self.task.searches_by and BY[by] != "tva":
            raise AvpeaError(f"The model was not trained to search by {by} alone (head.groups has no {BY[by]}).")
        column = {"both": "vector", "picture": "seen", "sound": "heard"}[by]
        condition = {"both": "", "picture": "has_picture", "sound": "has_sound"}[by]
        vectors = [query.pooled()[0].tolist() for query in queries]
        with self.library.as_it_is():
            most = top if top <= CANDIDATES else min(top, len(self.library))
            count = max(CANDIDATES, 2 * most)
            found = self.library.nearest(vectors, column, count, condition=condition)
            if not found:
                return []
            scores, places = ranked(found, queries, by, top)
            shown = self.library.described([found.numbers[place] for place in places])
        thumbnails = _thumbnails([row["thumbnail"] for row in shown])
        return [
            # Tokens that were kept as float16 may be longer than 1 by its rounding.
            Found(round(max(-1.0, min(1.0, score)), 4), row["source"], row["start"], row["end"], thumbnail)
            for score, row, thumbnail in zip(scores, shown, thumbnails, strict=True)
        ]


def spread_over(windows: int) -> list[int]:
    """Places of up to six of so many windows, from the first to the last."""
    found: list[int] = torch.linspace(0, windows - 1, min(windows, EXAMPLE_WINDOWS)).round().int().tolist()
    return found


def _require_known(by: str) -> None:
    if by not in BY:
        raise AvpeaError(f"by is '{by}'; expected {', '.join(BY)}.")


def ranked(found: Candidates, queries: Sequence[Embeddings], by: str, top: int) -> tuple[list[float], list[int]]:
    """Scores and places of the best of some windows, by the fine-grained similarity to the nearest query."""
    videos = found.embeddings(by)
    scores = torch.stack([query.similarity(videos)[0] for query in queries]).amax(dim=0)
    best = scores.topk(min(top, len(found)))
    return best.values.tolist(), best.indices.tolist()


def _thumbnails(pictures: list[bytes]) -> list[str | None]:
    """Paths of thumbnails, which are written if they do not exist; none if that is impossible, which is said once."""
    try:
        return [_written(picture) if picture else None for picture in pictures]
    except WriteError as error:
        note(f"there are no thumbnails: {error}")
        return [None] * len(pictures)


def _written(picture: bytes) -> str:
    name = hashlib.sha256(picture).hexdigest()[:24]
    path = Path(platformdirs.user_cache_dir("avpea")) / "thumbnails" / f"{name}.jpg"
    if not path.is_file():
        write_bytes(path, picture)
    return str(path)


def search(
    library: str | Path, text: str = "", *, example: str | Path | None = None, by: str = "both", top: int = 10,
    run: str | Path | None = None, weights: str | Path | None = None, audio_weights: str | Path | None = None,
    device: str | torch.device = "auto", trust: bool = False,
) -> list[Found]:  # fmt: skip
    """Search a library once, with a sentence or an example clip; see `Query` for the options.

    Raises:
        AvpeaError: Neither or both are given, or see `Query`.
    """
    if bool(text) == (example is not None):
        raise AvpeaError("Give a sentence, or an example clip with --video: one of the two.")
    query = Query(library, run, weights=weights, audio_weights=audio_weights, device=device, trust=trust)
    return query.text(text, by=by, top=top) if example is None else query.example(example, by=by, top=top)
