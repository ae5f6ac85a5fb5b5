"""How long a search takes and what it finds of what an exhaustive one would, for libraries of 10^3 to 10^6 windows.

    python -m bench search
    python -m bench.search 3000000      # one size, printed

Vectors are made up: groups of windows around centres, as windows of like videos are; queries are other windows of the
same groups. Each row has 20 tokens of 512 numbers, as a window of ten seconds has, its vector twenty times, and a
thumbnail of 2 KB, which is a small one: a million windows then fit in this machine's memory. A search is
all that follows the embedding of a sentence: the nearest windows are found, their tokens read and compared with the
query's, and file, times and thumbnail of the ten best read. Recall is how many of the ten an exhaustive scan of the
vectors finds, too. `parts` has the medians of the three steps. Cells are read into memory before (`warm_seconds`), as a
server does when it starts.

`others`: faiss and USearch, where they are installed (`pip install faiss-cpu usearch`), finding as many candidates
among the same vectors, in memory, without reading anything of them: faiss with as many cells of bits as LanceDB (IVF,
RaBitQ), USearch with a graph of neighbours (HNSW) of numbers in eight bits, up to 10^5 windows, since building it takes
long. Their recall is how many of the ten nearest are among the candidates.
"""

import importlib.util
import json
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from avpea.embeddings import Embeddings
from avpea.measure import machine
from avpea.search import Library
from avpea.search._candidates import COMPARED, together
from avpea.search._library import INDEX_FROM, NPROBES
from avpea.search._query import CANDIDATES, ranked
from avpea.search._shown import SHOWN, shown
from avpea.search._tokens import packed_tokens, size_of
from avpea.tasks.avr.heads.matcher import WIDTH

BATCH, QUERIES, TOP = 10_000, 40, 10
TOKENS = 20
THUMBNAIL = np.random.default_rng(4).bytes(2_000)


def vectors(rows: int, seed: int, first: int | None = None) -> np.ndarray:
    """Unit vectors, or the first of them, around one centre for every 50 windows, the same for every seed."""
    centres = np.random.default_rng(0).standard_normal((max(20, rows // 50), WIDTH)).astype(np.float32)
    chance = np.random.default_rng(seed)
    found = centres[chance.integers(len(centres), size=rows)[:first]]
    for start in range(0, len(found), BATCH):  # what is computed on the way takes no memory of this size
        some = found[start : start + BATCH]
        some += 0.7 * chance.standard_normal(some.shape, dtype=np.float32)
        some /= np.linalg.norm(some, axis=1, keepdims=True)
    return found


def tokens_around(some: np.ndarray) -> list[bytes]:
    """What a library keeps of tokens that are all a window's vector."""
    return [TOKENS * packed_tokens(one[None]) for one in torch.from_numpy(some)]


def batches(every: np.ndarray, schema: Any) -> Iterator[Any]:
    for start in range(0, len(every), BATCH):
        some = every[start : start + BATCH]
        size, numbers = len(some), range(start, start + len(some))
        payload = tokens_around(some)
        fixed = pa.FixedSizeListArray.from_arrays(pa.array(some.ravel()), WIDTH)
        columns = {
            "id": pa.array([f"{n:024d}" for n in numbers]),
            "source": pa.array([f"/videos/{n // 6}.mp4" for n in numbers]),
            "size": pa.array([1] * size), "modified": pa.array([1] * size),
            "start": pa.array([10.0 * n for n in numbers]), "end": pa.array([10.0 * n + 10 for n in numbers]),
            "has_picture": pa.array([True] * size), "has_sound": pa.array([True] * size),
            "vector": fixed, "seen": fixed, "heard": fixed,
            COMPARED: pa.array([together(one, [0.0] * TOKENS, TOKENS // 2) for one in payload], pa.binary()),
            SHOWN: pa.array([shown(f"/videos/{n // 6}.mp4", 10.0 * n, 10.0 * n + 10, THUMBNAIL) for n in numbers]),
        }  # fmt: skip
        yield pa.record_batch([columns[name] for name in schema.names], schema=schema)


Search = Callable[[torch.Tensor], tuple[list[int], list[float]]]


def searching(library: Library, exact: bool) -> Search:
    """Numbers of the best, and the seconds of each step."""

    def search(query: torch.Tensor) -> tuple[list[int], list[float]]:
        text = Embeddings(query[None, None], torch.zeros(1, 1), torch.ones(1, 1, dtype=torch.bool))
        times = [time.perf_counter()]
        found = library.nearest([query.tolist()], "vector", CANDIDATES, exact=exact)
        times.append(time.perf_counter())
        _, places = ranked(found, [text], "both", TOP)
        times.append(time.perf_counter())
        best = library.described([found.numbers[place] for place in places])
        times.append(time.perf_counter())
        return [int(row["start"]) // 10 for row in best], np.diff(times).tolist()

    return search


def measured(ways: dict[str, Search], queries: np.ndarray) -> dict[str, Any]:
    """Times of several ways to search, in turns, and what each finds of what the first one does."""
    times: dict[str, list[list[float]]] = {name: [] for name in ways}
    hits = dict.fromkeys(ways, 0)
    for query in torch.from_numpy(queries):
        wanted: set[int] = set()
        for name, search in ways.items():
            found, seconds = search(query)
            times[name].append(seconds)
            wanted = wanted or set(found)
            hits[name] += len(set(found) & wanted)
    count = TOP * len(queries)
    return {name: _figures(some[2:], hits[name] / count) for name, some in times.items()}  # the first open files


def of_faiss(every: np.ndarray) -> tuple[Any, str]:
    import faiss

    index = faiss.index_factory(WIDTH, f"IVF{round(len(every) ** 0.5)},RaBitQ", faiss.METRIC_INNER_PRODUCT)
    index.train(every)
    index.add(every)
    index.nprobe = NPROBES
    return lambda query: index.search(query[None], CANDIDATES)[1][0], faiss.__version__


def of_usearch(every: np.ndarray) -> tuple[Any, str]:
    import usearch
    from usearch.index import Index

    index = Index(ndim=WIDTH, metric="ip", dtype="i8")
    index.add(np.arange(len(every)), every)
    return lambda query: index.search(query, CANDIDATES).keys, usearch.__version__


def others(every: np.ndarray, queries: np.ndarray) -> dict[str, Any]:
    """How long other libraries take to find candidates, those that are installed."""
    report: dict[str, Any] = {}
    wanted = [set(np.argpartition(-(every @ query), TOP)[:TOP].tolist()) for query in queries]
    for name, make, most in (("faiss", of_faiss, 10**7), ("usearch", of_usearch, 10**5)):
        if importlib.util.find_spec(name) is None or len(every) > most:
            continue
        started = time.perf_counter()
        find, version = make(every)
        seconds, times, hits = time.perf_counter() - started, [], 0
        for query, nearest in zip(queries, wanted, strict=True):
            started = time.perf_counter()
            found = find(query)
            times.append(1000 * (time.perf_counter() - started))
            hits += len(set(found.tolist()) & nearest)
        report[name] = {
            "version": version,
            "index_seconds": round(seconds, 1),
            **_spread(times[2:]),
            f"recall_of_{TOP}": round(hits / TOP / len(queries), 4),
        }
    return report


def _spread(milliseconds: list[float]) -> dict[str, float]:
    ordered = sorted(milliseconds)
    return {"median_ms": round(statistics.median(ordered), 1), "p95_ms": round(ordered[int(0.95 * len(ordered))], 1)}


def _figures(times: list[list[float]], recall: float) -> dict[str, Any]:
    whole = [1000 * sum(steps) for steps in times]
    parts = [round(1000 * statistics.median(step), 1) for step in zip(*times, strict=True)]
    return {
        **_spread(whole),
        "parts": dict(zip(("find_and_read", "compare", "describe"), parts, strict=True)),
        f"recall_of_{TOP}": round(recall, 4),
        "candidates": CANDIDATES,
    }


def one(rows: int, place: Path) -> dict[str, Any]:
    library = Library(str(place), {"model": "made up", "run": "bench", "segments": 10, "width": WIDTH})
    table = library._windows
    every = vectors(rows, 2)
    started = time.perf_counter()
    table.add(pa.RecordBatchReader.from_batches(table.schema, batches(every, table.schema)))
    report: dict[str, Any] = {"windows": rows, "write_seconds": round(time.perf_counter() - started, 1)}
    queries = vectors(rows, 3, QUERIES)
    ways = {"exhaustive": searching(library, exact=True)}
    if rows >= INDEX_FROM:
        size, started = _bytes(place), time.perf_counter()
        library.index_vectors()
        seconds = round(time.perf_counter() - started, 1)
        report["index"] = {"seconds": seconds, "kb_a_window": round((_bytes(place) - size) / rows / 1e3, 2)}
        library, started = Library(str(place)), time.perf_counter()
        library.warm()
        report["index"]["warm_seconds"] = round(time.perf_counter() - started, 2)
        ways["indexed"] = searching(library, exact=False)
    report |= measured(ways, queries)
    if rows >= INDEX_FROM:
        report["others"] = others(every, queries)
    report["tokens_kb_a_window"] = round(TOKENS * size_of(WIDTH) / 1e3, 2)
    report["megabytes"] = round(_bytes(place) / 1e6)
    return report


def _bytes(place: Path) -> int:
    return sum(f.stat().st_size for f in place.rglob("*") if f.is_file())


def at(rows: int) -> dict[str, Any]:
    """The figures of one size, from a library that is removed again."""
    folder = Path(tempfile.mkdtemp(prefix="avpea-bench-"))
    try:
        return one(rows, folder / "library")
    finally:
        shutil.rmtree(folder)


def run(quick: bool) -> dict[str, Any]:
    sizes = (1_000,) if quick else (1_000, 10_000, 100_000, 1_000_000)
    return {
        "what": __doc__,
        "command": "python -m bench search",
        "machine": machine(),
        "load": os.getloadavg(),
        "queries": QUERIES,
        "rows": [at(size) for size in sizes],
    }


if __name__ == "__main__":
    print(json.dumps({"machine": machine(), "load": os.getloadavg(), **at(int(sys.argv[1]))}, indent=1))
