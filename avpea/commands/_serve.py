"""`avpea serve`."""

import argparse

from avpea.command import (
    Command,
    a_path,
    add_limits,
    add_weights,
    limits_of,
    loading_of,
)

__all__ = ["COMMANDS"]


def _serve_arguments(parser: argparse.ArgumentParser) -> None:
    from avpea.serve.settings import SERVED, Settings

    default = Settings(())
    parser.add_argument("runs", nargs="+", metavar="RUN", help="run folder, checkpoint file or hub repository")
    parser.add_argument("--library", metavar="LIB", help="library of indexed videos to search")
    parser.add_argument("--folder", type=a_path, metavar="VIDEOS", help="folder of videos to offer beside uploads")
    parser.add_argument("--host", default=default.host, help=f"address to listen at (default: {default.host})")
    parser.add_argument("--port", type=int, default=default.port, help=f"port, 0 for any (default: {default.port})")
    parser.add_argument("--token-file", type=a_path, metavar="FILE", help="file with a token that requests must bring")
    about = "name that requests may call the server by, beside those of this machine; can be repeated"
    parser.add_argument("--allow-host", dest="allowed_hosts", action="append", default=[], metavar="NAME", help=about)
    for name, unit, about in (
        ("upload_mb", "MB", "size of an uploaded file"),
        ("kept_mb", "MB", "size of all uploaded files"),
        ("video_seconds", "S", "length of a video"),
        ("workers", "N", "processes that decode"),
        ("at_once", "N", "requests that are worked on together"),
        ("waiting", "N", "requests that may wait; one more is answered with 503"),
        ("deadline_seconds", "S", "time after which a request is given up"),
    ):
        most = getattr(default, name)
        option = f"--{name.replace('_', '-')}"
        parser.add_argument(option, type=int, default=most, metavar=unit, help=f"{about} (default: {most})")
    add_weights(parser)
    add_limits(parser, SERVED, in_process=False)


def _serve(options: argparse.Namespace) -> None:
    from avpea.serve.settings import Settings, read_token, require_extra

    require_extra()
    names = ("library", "folder", "host", "port", "upload_mb", "kept_mb", "video_seconds", "workers", "at_once")
    settings = Settings(
        runs=tuple(options.runs),
        token=read_token(options.token_file),
        allowed_hosts=tuple(options.allowed_hosts),
        limits=limits_of(options),
        **{name: getattr(options, name) for name in (*names, "waiting", "deadline_seconds")},
    )
    from avpea.serve.running import serve

    serve(settings, loading_of(options))


COMMANDS = [
    Command(
        "serve", "Serve runs over HTTP: a page that shows and corrects what they find, and an API.",
        "avpea serve runs/NAME --folder VIDEOS", _serve_arguments, _serve, media=False,
    ),
]  # fmt: skip
