"""How long a search takes and what it finds of what an exhaustive one would, for libraries of 10^3 to 10^6 windows.

    python -m bench search

Vectors are made up: groups of windows around centres, as windows of like videos are; queries are other windows of the
same groups. Each row has 20 tokens of 512 numbers, as a window of ten seconds has. From 10^5 windows on, what was done
up to commit 428df59 is measured too, in turns (but for its tokens, which were of half precision).
"""

import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from lancedb.index import IvfFlat, IvfRq

from avpea.measure import machine
from avpea.search import Library
from avpea.search._tokens import size_of
from avpea.tasks.avr.heads.matcher import WIDTH

BATCH, QUERIES, TOP = 10_000, 40, 10
PROBES_BEFORE = 64
CANDIDATES = 200
TOKENS = 20


def vectors(rows: int, seed: int) -> np.ndarray:
    """Unit vectors around one centre for every 50 windows, the same centres for every seed."""
    centres = np.random.default_rng(0).standard_normal((max(20, rows // 50), WIDTH)).astype(np.float32)
    chance = np.random.default_rng(seed)
    found = centres[chance.integers(len(centres), size=rows)]
    found += 0.7 * chance.standard_normal(found.shape, dtype=np.float32)
    found /= np.linalg.norm(found, axis=1, keepdims=True)
    return found


def batches(every: np.ndarray, schema: Any) -> Iterator[Any]:
    chance = np.random.default_rng(1)
    for start in range(0, len(every), BATCH):
        some = every[start : start + BATCH]
        size = len(some)
        payload = chance.integers(256, size=(size, TOKENS, size_of(WIDTH)), dtype=np.uint8)
        payload[..., :2] = np.frombuffer(np.float16(1).tobytes(), np.uint8)  # their lengths
        fixed = pa.FixedSizeListArray.from_arrays(pa.array(some.ravel()), WIDTH)
        columns = {
            "id": pa.array([f"{start + i:024d}" for i in range(size)]),
            "source": pa.array([f"/videos/{(start + i) // 6}.mp4" for i in range(size)]),
            "size": pa.array([1] * size), "modified": pa.array([1] * size),
            "start": pa.array([10.0 * i for i in range(size)]), "end": pa.array([10.0 * i + 10 for i in range(size)]),
            "has_picture": pa.array([True] * size), "has_sound": pa.array([True] * size),
            "vector": fixed, "seen": fixed, "heard": fixed,
            "tokens": pa.array([row.tobytes() for row in payload], pa.binary()),
            "scores": pa.array([[0.0] * TOKENS] * size, pa.list_(pa.float32())),
            "frames": pa.array([TOKENS // 2] * size, pa.int32()), "thumbnail": pa.array([b""] * size, pa.binary()),
        }  # fmt: skip
        yield pa.record_batch([columns[name] for name in schema.names], schema=schema)


Search = Callable[[list[float]], list[str]]


def measured(ways: dict[str, Search], queries: np.ndarray, truth: np.ndarray) -> dict[str, Any]:
    """Times and recall of several ways to search, in turns."""
    times: dict[str, list[float]] = {name: [] for name in ways}
    hits = dict.fromkeys(ways, 0)
    for query, wanted in zip(queries, truth, strict=True):
        for name, search in ways.items():
            started = time.perf_counter()
            found = search(query.tolist())
            times[name].append(1000 * (time.perf_counter() - started))
            hits[name] += len({int(one) for one in found} & set(wanted.tolist()))
    return {name: _figures(some[2:], hits[name] / truth.size) for name, some in times.items()}  # the first open files


def _figures(times: list[float], recall: float) -> dict[str, Any]:
    return {
        "median_ms": round(statistics.median(times), 1),
        "p95_ms": round(sorted(times)[int(0.95 * len(times))], 1),
        f"recall_of_{TOP}": round(recall, 4),
        "candidates": CANDIDATES,
    }


def now(library: Library, exact: bool) -> Search:
    return lambda query: [row["id"] for row in library.nearest(query, "vector", CANDIDATES, exact=exact)]


def before(library: Library) -> Search:
    """As up to 428df59: cells of whole vectors (here, of the column `seen`), and every column of the windows found."""

    def search(query: list[float]) -> list[str]:
        found = library._windows.search(query, vector_column_name="seen").distance_type("dot").limit(CANDIDATES)
        return [row["id"] for row in found.nprobes(PROBES_BEFORE).to_list()]

    return search


def one(rows: int, place: Path) -> dict[str, Any]:
    library = Library(str(place), {"model": "made up", "run": "bench", "segments": 10, "width": WIDTH})
    table = library._windows
    every = vectors(rows, 2)
    started = time.perf_counter()
    table.add(pa.RecordBatchReader.from_batches(table.schema, batches(every, table.schema)))
    report: dict[str, Any] = {"windows": rows, "write_seconds": round(time.perf_counter() - started, 1)}
    queries = vectors(rows, 3)[:QUERIES]
    truth = np.argsort(-(queries @ every.T), axis=1)[:, :TOP]
    ways = {"exhaustive": now(library, exact=True)}
    if rows >= 100_000:
        # A column of each kind of index, which hold the same vectors; a library has three columns of one kind.
        for name, column, kind in (("index", "vector", IvfRq), ("index_before", "seen", IvfFlat)):
            size, started = _bytes(place), time.perf_counter()
            cells = kind(distance_type="dot", num_partitions=round(rows**0.5))
            table.create_index(column, config=cells)
            seconds = round(3 * (time.perf_counter() - started), 1)
            report[name] = {"seconds": seconds, "kb_a_window": round(3 * (_bytes(place) - size) / rows / 1e3, 2)}
        library = Library(str(place))
        ways |= {"indexed": now(library, exact=False), "indexed_before": before(library)}
    report |= measured(ways, queries, truth)
    report["megabytes"] = round(_bytes(place) / 1e6)
    return report


def _bytes(place: Path) -> int:
    return sum(f.stat().st_size for f in place.rglob("*") if f.is_file())


def run(quick: bool) -> dict[str, Any]:
    rows = []
    for size in (1_000,) if quick else (1_000, 10_000, 100_000, 1_000_000):
        folder = Path(tempfile.mkdtemp(prefix="avpea-bench-"))
        try:
            rows.append(one(size, folder / "library"))
        finally:
            shutil.rmtree(folder)
    return {
        "what": __doc__,
        "command": "python -m bench search",
        "machine": machine(),
        "load": os.getloadavg(),
        "queries": QUERIES,
        "rows": rows,
    }
