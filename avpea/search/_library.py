"""A library of indexed videos: a LanceDB database in a folder or an object store."""

import json
import os
import random
import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

from avpea.errors import AvpeaError
from avpea.parsing import parse_json
from avpea.search._candidates import BEFORE, COMPARED, Candidates, DamagedError
from avpea.search._light import import_lancedb
from avpea.search._shown import APART, SHOWN, complaint_about, unpacked_shown
from avpea.search._windows import FileState
from avpea.trust import is_own, sign

__all__ = ["Library"]

FORMAT = "avpea-library-1"
_WINDOWS, _ABOUT = "windows", "about"
# From this number of windows on, a search scans only part of the vectors (bench/results/search.json).
INDEX_FROM = 100_000
NPROBES = 192  # number of cells that a search scans
LOOK_EVERY_SECONDS = 1.0  # a look into an object store can take longer than a search
_VECTORS = ("vector", "seen", "heard")


class Library:
    """The windows of indexed videos, and a description of the model that embedded them.

    Several processes may write at once: the key of a window does not depend on the writer, and writes are atomic.

    Args:
        place: Folder, or URL of an object store that LanceDB supports (`s3://bucket/videos`).
        about: Description of the model, to make the library if it does not exist: `model` (fingerprint), `run`,
            `segments` and `width` of its embeddings; None only opens an existing library.

    Attributes:
        about: The description of the model that made the library.
        own: Whether this user made the library.

    Raises:
        AvpeaError: LanceDB is not installed, there is no library (and `about` is None), or another model made it.
    """

    def __init__(self, place: str | Path, about: Mapping[str, Any] | None = None) -> None:
        try:
            lancedb = import_lancedb()
        except ImportError:
            raise AvpeaError("A library needs LanceDB: pip install 'avpea[search]'") from None
        self.place: str = os.fspath(place)
        place = self.place
        if about is None and "://" not in place and not Path(place).is_dir():
            raise AvpeaError(f"There is no library {place}; `avpea index RUN FOLDER --library {place}` makes one.")
        try:
            self._base: Any = lancedb.connect(place)
            described = self._described()
        except Exception as error:  # LanceDB and its object stores have many types of errors
            raise AvpeaError(f"The library {place} cannot be opened ({_first_line(error)}).") from None
        if not described:
            if about is None:
                raise AvpeaError(f"{place} is no library; `avpea index RUN FOLDER --library {place}` makes one.")
            _patiently(self.place, lambda: self._make(about))
            described = self._described()
        self.about = _checked(described[0], place)
        try:
            self._windows: Any = self._base.open_table(_WINDOWS)
        except Exception as error:
            raise AvpeaError(
                f"The library {place} has no windows ({_first_line(error)}); index the videos into a new library."
            ) from None
        self._one_at_a_time, self._looked = threading.RLock(), time.monotonic()
        self.own = is_own(_signed(self.about), str(self.about.get("signature", "")))
        if about is not None:
            self.require(str(about["model"]), str(about["run"]))

    def require(self, model: str, run: str) -> None:
        """Check that a model is the one that made the library.

        Raises:
            AvpeaError: It is another one.
        """
        if model != self.about["model"]:
            raise AvpeaError(
                f"The library {self.place} was made by {self.about['run']} (model {self.about['model'][:12]}), and "
                f"{run} is another model ({model[:12]}); vectors of two models cannot be compared. Index into another "
                "library."
            )

    def _described(self) -> list[dict[str, Any]]:
        """The row that describes the library; empty if there is no library, or another process is making it now."""
        try:
            table = self._base.open_table(_ABOUT)
        except ValueError as error:
            if "not found" in str(error):
                return []
            raise
        rows: list[dict[str, Any]] = table.search().limit(1).to_list()
        return rows

    def _make(self, about: Mapping[str, Any]) -> None:
        import pyarrow as pa

        def key(kind: Any) -> Any:
            """The key column; without this metadata, concurrent writers would leave two rows for one key."""
            mark = {"lance-schema:unenforced-primary-key": "true"}
            return pa.field("id", kind, nullable=False, metadata=mark)

        vector = pa.list_(pa.float32(), int(about["width"]))
        windows = pa.schema(
            [
                key(pa.string()), ("source", pa.string()), ("size", pa.int64()), ("modified", pa.int64()),
                ("start", pa.float64()), ("end", pa.float64()), ("has_picture", pa.bool_()), ("has_sound", pa.bool_()),
                *((name, vector) for name in _VECTORS),
                (COMPARED, pa.binary()), (SHOWN, pa.binary()),
            ]
        )  # fmt: skip
        description = pa.schema([key(pa.int64()), ("json", pa.string())])
        self._base.create_table(_WINDOWS, schema=windows, exist_ok=True)
        table = self._base.create_table(_ABOUT, schema=description, exist_ok=True)
        # If two processes start at once, the second finds the first one's row.
        made = {"format": FORMAT, **about}
        made = {**made, "signature": sign(_signed(made))}
        row = pa.Table.from_pylist([{"id": 0, "json": json.dumps(made)}], schema=description)
        table.merge_insert("id").when_not_matched_insert_all().execute(row)

    @property
    def tracks(self) -> dict[str, int]:
        """`audio_track` and `video_track` of the files that it holds, if other ones than the default."""
        found: dict[str, int] = self.about.get("tracks", {})
        return found

    @property
    def width(self) -> int:
        """Numbers of a vector and of a token; 0 if the windows have no vectors."""
        names = self._windows.schema.names
        return int(getattr(self._windows.schema.field("vector").type, "list_size", 0)) if "vector" in names else 0

    def __len__(self) -> int:
        """Number of windows."""
        return int(self._windows.count_rows())

    def files(self) -> set[FileState]:
        """The versions of files that have windows: two of one file if indexing was killed as it replaced the first."""
        self._windows.checkout_latest()
        names = ["source", "size", "modified"]
        return {FileState(*(row[name] for name in names)) for row in self._columns(names)}

    def has(self, state: FileState) -> bool:
        """Whether the current version of a file is indexed."""
        self._windows.checkout_latest()
        return self._windows.count_rows(_same(state)) > 0  # type: ignore[no-any-return]

    def add(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Write the windows of some files, and remove those of older versions of these files."""
        if not rows:
            return
        import pyarrow as pa

        states = {FileState(row["source"], row["size"], row["modified"]) for row in rows}
        table = pa.Table.from_pylist(list(rows), schema=self._windows.schema)

        def write() -> None:
            self._windows.checkout_latest()
            writing = self._windows.merge_insert("id").when_matched_update_all().when_not_matched_insert_all()
            writing.execute(table)

        _patiently(self.place, write)
        stale = " OR ".join(f"(source = {_quoted(s.source)} AND NOT ({_same(s)}))" for s in states)
        if self._windows.count_rows(stale):
            self._delete(stale)

    def remove(self, sources: Iterable[str]) -> None:
        """Remove all windows of some files."""
        some = list(sources)
        for start in range(0, len(some), 500):
            names = ", ".join(_quoted(source) for source in some[start : start + 500])
            self._delete(f"source IN ({names})")

    def remove_versions(self, states: Iterable[FileState]) -> None:
        """Remove all windows of some versions of files."""
        some = list(states)
        for start in range(0, len(some), 100):
            self._delete(" OR ".join(f"({_same(state)})" for state in some[start : start + 100]))

    def _delete(self, condition: str) -> None:
        def delete() -> None:
            self._windows.checkout_latest()
            self._windows.delete(condition)

        _patiently(self.place, delete)

    def tidy(self) -> None:
        """Compact the database and, in a large library, index the vectors; skipped if another process is at it."""
        try:
            self._windows.checkout_latest()
            self._windows.optimize(cleanup_older_than=timedelta(days=1))
            if len(self) >= INDEX_FROM:
                self.index_vectors()
        except Exception as error:
            if not _is_conflict(error):
                raise AvpeaError(f"The library {self.place} could not be tidied ({_first_line(error)}).") from None

    def index_vectors(self) -> None:
        """Sort the vectors into cells, of which a search scans some, with a bit for each number (RaBitQ)."""
        from lancedb.index import IvfRq

        # K-means gets a quarter of the vectors that are the default, and takes half the time; NPROBES makes up for it.
        cells = IvfRq(distance_type="dot", num_partitions=max(1, round(len(self) ** 0.5)), sample_rate=64)
        for name in _VECTORS:
            self._windows.create_index(name, config=cells)

    @contextmanager
    def as_it_is(self) -> Iterator[None]:
        """In this block, search the library as it is now, for one thread at a time.

        What others have written since is looked for at most once a second. Numbers of windows hold within the block
        alone, since whoever compacts the library changes them.

        Raises:
            AvpeaError: The library cannot be read.
        """
        with self._one_at_a_time:
            if time.monotonic() - self._looked > LOOK_EVERY_SECONDS:
                try:
                    self._windows.checkout_latest()
                except Exception as error:
                    raise AvpeaError(f"The library {self.place} cannot be read ({_first_line(error)}).") from None
                self._looked = time.monotonic()
            yield

    def warm(self) -> None:
        """Read all cells into memory, so that the first searches take no longer than later ones.

        Raises:
            AvpeaError: They cannot be read.
        """
        try:
            for cells in self._windows.list_indices():
                self._windows.prewarm_index(cells.name)
        except Exception as error:
            raise AvpeaError(f"The library {self.place} cannot be read ({_first_line(error)}).") from None

    def nearest(
        self, vectors: Sequence[Sequence[float]], column: str, count: int, *, exact: bool = False, condition: str = ""
    ) -> Candidates:
        """The windows with the vectors most similar to each of some vectors, the most similar first.

        Args:
            vectors: Vectors of unit length.
            column: The vectors to compare: `vector`, `seen` or `heard`.
            count: Number of windows for each vector.
            exact: Whether to scan all vectors even if they are indexed.
            condition: An SQL condition on the rows.

        Raises:
            AvpeaError: The library is not as avpea writes it.
        """
        import pyarrow as pa

        try:
            found = [self._query(vector, column, count, exact, condition).to_arrow() for vector in vectors]
        except Exception as error:  # the vectors are not of the width that the description says
            raise AvpeaError(f"The library {self.place} cannot be searched ({_first_line(error)}).") from None
        try:
            return Candidates.of(pa.concat_tables(found), self.width)
        except DamagedError as error:
            raise self._damaged(str(error)) from None

    def _query(self, vector: Sequence[float], column: str, count: int, exact: bool, condition: str) -> Any:
        query = self._windows.search(list(vector), vector_column_name=column).distance_type("dot").limit(count)
        read = [COMPARED] if COMPARED in self._windows.schema.names else BEFORE
        query = query.select([*read, "_distance"]).with_row_id(True)
        query = query.bypass_vector_index() if exact else query.nprobes(NPROBES)
        return query.where(condition, prefilter=True) if condition else query

    def described(self, numbers: Sequence[int]) -> list[dict[str, Any]]:
        """The files, times and thumbnails of windows, by their numbers in `Candidates`.

        Raises:
            AvpeaError: The library is not as avpea writes it.
        """
        if not numbers:
            return []
        together = SHOWN in self._windows.schema.names
        read = [SHOWN] if together else APART
        try:
            taken = self._windows.take_row_ids(list(numbers)).select(read).with_row_id().to_arrow().to_pylist()
        except Exception as error:
            raise AvpeaError(f"The library {self.place} cannot be read ({_first_line(error)}).") from None
        rows = {row["_rowid"]: unpacked_shown(row[SHOWN]) if together else row for row in taken}
        for number in numbers:
            if complaint := complaint_about(rows.get(number, {})):
                raise self._damaged(complaint)
        return [rows[number] for number in numbers]

    def _damaged(self, complaint: str) -> AvpeaError:
        return AvpeaError(
            f"The library {self.place} is damaged: a window has {complaint}; index the videos into a new library."
        )

    def _columns(self, names: list[str]) -> Iterator[dict[str, Any]]:
        for batch in self._windows.search().select(names).limit(max(1, len(self))).to_batches():
            yield from batch.to_pylist()


def _checked(row: Mapping[str, Any], place: str) -> dict[str, Any]:
    """The description of a library, of the right types.

    Raises:
        AvpeaError: It is of another format, or not as avpea writes it.
    """
    found = parse_json(str(row.get("json")), f"{place}: its description", AvpeaError)
    form = found.get("format") if isinstance(found, dict) else None
    if form != FORMAT:
        raise AvpeaError(f"{place} has format {form!r:.40}, expected {FORMAT}; index the videos into a new library.")
    for name, kind in {"model": str, "run": str, "segments": int, "width": int}.items():
        value = found.get(name, 1 if kind is int else None)  # libraries of version 0.1.0 have not all numbers
        if not isinstance(value, kind) or isinstance(value, bool) or not value:
            raise AvpeaError(
                f"{place}: its description has the {name} {value!r:.40}; index the videos into a new library."
            )
    tracks = found.get("tracks", {})
    if not isinstance(tracks, dict) or not all(
        name in ("audio_track", "video_track") and type(number) is int for name, number in tracks.items()
    ):
        raise AvpeaError(
            f"{place}: its description has the tracks {tracks!r:.40}; index the videos into a new library."
        )
    described: dict[str, Any] = found
    return described


def _signed(about: Mapping[str, Any]) -> str:
    """What the signature of a library covers: everything that its description says."""
    return json.dumps({key: value for key, value in about.items() if key != "signature"}, sort_keys=True)


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _same(state: FileState) -> str:
    return f"source = {_quoted(state.source)} AND size = {state.size} AND modified = {state.modified}"


def _patiently(place: str, write: Callable[[], Any]) -> None:
    """Write to a library, and retry if another process has written in between.

    Raises:
        AvpeaError: It cannot be written.
    """
    for attempt in range(12):
        try:
            write()
        except Exception as error:
            if attempt == 11 or not _is_conflict(error):
                raise AvpeaError(
                    f"The library {place} cannot be written ({_first_line(error)}); make room there. What is written "
                    "already is whole, and the same command goes on."
                ) from None
            time.sleep(random.uniform(0, 0.1 * 2 ** min(attempt, 5)))
        else:
            return


def _is_conflict(error: Exception) -> bool:
    # The last two occur while another process is making the library.
    words = ("conflict", "retry", "concurrent", "preempted", "not found", "already exists")
    return any(word in str(error).lower() for word in words)


def _first_line(error: Exception) -> str:
    """What happened, without the place in LanceDB's source where it did."""
    first = (str(error).strip() or type(error).__name__).splitlines()[0]
    return re.sub(r",? *\S*\.rs:\d+:\d+.*", "", first)[:200]
