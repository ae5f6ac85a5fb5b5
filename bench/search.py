"""How long a search takes and what it finds of what an exhaustive one would, for libraries of 10^3 to 10^6 windows.

    python -m bench search

Vectors are made up: groups of windows around centres, as windows of like videos are; queries are other windows of the
same groups. Rows up to 10^5 have tokens of real size (20 of 512, half precision, 20 KB); of 10^6 windows these would
take 20 GB, so there each row has one token.
"""

import shutil
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from avpea.measure import machine
from avpea.search import Library
from avpea.tasks.avr.heads.matcher import WIDTH

BATCH, QUERIES, TOP = 10_000, 40, 10


def vectors(rows: int, seed: int) -> np.ndarray:
    """Unit vectors around one centre for every 50 windows, the same centres for every seed."""
    centres = np.random.default_rng(0).standard_normal((max(20, rows // 50), WIDTH)).astype(np.float32)
    chance = np.random.default_rng(seed)
    found = centres[chance.integers(len(centres), size=rows)]
    found += 0.7 * chance.standard_normal(found.shape, dtype=np.float32)
    found /= np.linalg.norm(found, axis=1, keepdims=True)
    return found


def batches(every: np.ndarray, schema: Any) -> Iterator[Any]:
    tokens = 20 if len(every) <= 100_000 else 1
    chance = np.random.default_rng(1)
    for start in range(0, len(every), BATCH):
        some = every[start : start + BATCH]
        size = len(some)
        payload = chance.standard_normal((size, tokens * WIDTH), dtype=np.float32).astype(np.float16)
        fixed = pa.FixedSizeListArray.from_arrays(pa.array(some.ravel()), WIDTH)
        columns = {
            "id": pa.array([f"{start + i:024d}" for i in range(size)]),
            "source": pa.array([f"/videos/{(start + i) // 6}.mp4" for i in range(size)]),
            "size": pa.array([1] * size), "modified": pa.array([1] * size),
            "start": pa.array([10.0 * i for i in range(size)]), "end": pa.array([10.0 * i + 10 for i in range(size)]),
            "has_picture": pa.array([True] * size), "has_sound": pa.array([True] * size),
            "vector": fixed, "seen": fixed, "heard": fixed,
            "tokens": pa.array([row.tobytes() for row in payload], pa.binary()),
            "scores": pa.array([[0.0] * tokens] * size, pa.list_(pa.float32())),
            "frames": pa.array([tokens // 2] * size, pa.int32()), "thumbnail": pa.array([b""] * size, pa.binary()),
        }  # fmt: skip
        yield pa.record_batch([columns[name] for name in schema.names], schema=schema)


def measured(library: Library, queries: np.ndarray, truth: np.ndarray, *, exact: bool, count: int) -> dict[str, Any]:
    times, hits = [], 0
    for query, wanted in zip(queries, truth, strict=True):
        started = time.perf_counter()
        found = library.nearest(query.tolist(), "vector", count, exact=exact)
        times.append(1000 * (time.perf_counter() - started))
        hits += len({int(row["id"]) for row in found} & set(wanted.tolist()))
    times = times[2:]  # the first ones open files
    return {
        "median_ms": round(statistics.median(times), 1),
        "p95_ms": round(sorted(times)[int(0.95 * len(times))], 1),
        f"recall_of_{TOP}": round(hits / truth.size, 4),
        "candidates": count,
    }


def one(rows: int, place: Path) -> dict[str, Any]:
    library = Library(str(place), {"model": "made up", "run": "bench", "segments": 10, "width": WIDTH})
    table = library._windows
    every = vectors(rows, 2)
    started = time.perf_counter()
    table.add(pa.RecordBatchReader.from_batches(table.schema, batches(every, table.schema)))
    report: dict[str, Any] = {"windows": rows, "write_seconds": round(time.perf_counter() - started, 1)}
    queries = vectors(rows, 3)[:QUERIES]
    truth = np.argsort(-(queries @ every.T), axis=1)[:, :TOP]
    report["exhaustive"] = measured(library, queries, truth, exact=True, count=200)
    if rows >= 100_000:
        started = time.perf_counter()
        library.index_vectors()
        report["index_seconds"] = round(time.perf_counter() - started, 1)
        report["indexed"] = measured(Library(str(place)), queries, truth, exact=False, count=200)
    report["megabytes"] = round(sum(f.stat().st_size for f in place.rglob("*") if f.is_file()) / 1e6)
    return report


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
        "queries": QUERIES,
        "rows": rows,
    }
