"""`avpea index` and `avpea search`."""

import argparse

from avpea.command import (
    Command,
    a_path,
    add_run,
    add_tracks,
    add_weights,
    loading_of,
    print_json,
    reading_of,
)
from avpea.tables import Table, clock, show

__all__ = ["COMMANDS"]


def _index_arguments(parser: argparse.ArgumentParser) -> None:
    add_run(parser)
    parser.add_argument("folder", type=a_path, help="folder of videos; its subfolders are searched too")
    parser.add_argument(
        "--library", required=True, metavar="PLACE", help="folder, or URL of an object store (s3://...)"
    )
    parser.add_argument(
        "--ray", type=int, default=0, metavar="N", help="read files in N Ray workers (default: in this process)"
    )
    add_tracks(parser)


def _index(options: argparse.Namespace) -> int:
    from avpea import search as searching

    report = searching.index(
        options.run,
        options.folder,
        options.library,
        **loading_of(options),
        **reading_of(options),
        workers=options.ray,
        progress=not options.quiet,
    )
    print_json(report.to_dict()) if options.json else show(report.lines())
    return 1 if report.broken else 0


def _search_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("library", help="folder or URL of the library")
    parser.add_argument("text", nargs="?", help="a sentence that says what is seen or heard")
    parser.add_argument("--video", type=a_path, metavar="FILE", help="an example clip instead of a sentence")
    streams = ("both", "picture", "sound")
    parser.add_argument("--by", choices=streams, default="both", help="what to compare with (default: both)")
    parser.add_argument("--top", type=int, default=10, metavar="N", help="number of results (default: 10)")
    parser.add_argument("--run", type=a_path, help="the run that made the library, if moved since")
    add_weights(parser)


def _search(options: argparse.Namespace) -> None:
    from avpea import search as searching

    files = {"run": options.run, **loading_of(options)}
    found = searching.search(
        options.library, options.text or "", example=options.video, by=options.by, top=options.top, **files
    )
    if options.json:
        print_json([one.to_dict() for one in found])
    elif not found:
        print("Nothing found: the library has no window to compare.")
    else:
        rows = [
            (
                one.file,
                f"{clock(one.start_seconds)} - {clock(one.end_seconds)}",
                f"{one.score:.3f}",
                one.thumbnail or "-",
            )
            for one in found
        ]
        show([Table(["file", "time", "score", "thumbnail"], rows)])


COMMANDS = [
    Command(
        "index", "Index the videos of a folder, so that they can be searched.",
        "avpea index runs/NAME FOLDER --library LIBRARY", _index_arguments, _index, json=True, quiet=True,
    ),
    Command(
        "search", "Search a library by a sentence or an example clip.",
        'avpea search LIBRARY "a dog barks while a train passes" --by sound',
        _search_arguments, _search, json=True,
    ),
]  # fmt: skip
