"""Searching the library, with videos in the answer that a page can play."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from avpea.files import json_line
from avpea.search import Found
from avpea.serve.asking import Search
from avpea.serve.problems import Problem, about_file
from avpea.serve.server import Server
from avpea.serve.work import Piece

__all__ = ["search"]


def search(server: Server, asked: Search, piece: Piece) -> bytes:
    """The best windows, as `avpea search --json` has them; a file has its name, and its id in `video`.

    Raises:
        Problem: Neither or both of a sentence and an example are given, or the server has no library.
        AvpeaError: See `avpea.search.Query`.
    """
    if (asked.text is None) == (asked.video is None):
        raise Problem(
            422, "Give a sentence with `text`, or an example with `video`: one of the two.", "invalid-request"
        )
    query = server.querying(piece)
    if asked.text is not None:
        sentence = asked.text
        found = server.engine.call(lambda: query.text(sentence, by=asked.by, top=asked.top))
    else:
        example = server.videos.get(asked.video or "")
        with about_file(example.path, example.name), piece.decoding(0):
            looked = server.videos.looked_at(example)
            found = query.example(looked.path, by=asked.by, top=asked.top)
    return json_line([_shown(server, one) for one in found]).encode()


def _shown(server: Server, found: Found) -> dict[str, Any]:
    """A window without paths of the server."""
    video = server.videos.of_library(Path(found.file), server.library_is_own)
    middle = (found.start_seconds + found.end_seconds) / 2
    thumbnail = f"/v1/videos/{video.id}/thumbnail?second={middle:g}" if video and found.thumbnail else None
    named = replace(found, file=video.name if video else Path(found.file).name, thumbnail=thumbnail)
    return {**named.to_dict(), "video": video.id if video else None}
