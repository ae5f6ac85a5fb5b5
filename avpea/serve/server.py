"""What a running server holds together: settings, videos, models, work; and its end."""

import copy
import threading
from pathlib import Path
from typing import Any

from avpea.errors import AvpeaError
from avpea.files import remove_leftovers
from avpea.search import Library, Query
from avpea.serve.engine import Engine, ServedPredictor
from avpea.serve.exports import MANIFEST
from avpea.serve.guard import Sessions
from avpea.serve.models import Models, Run, require_useful
from avpea.serve.monitor import Monitor
from avpea.serve.problems import Problem
from avpea.serve.review import Reviews, homes
from avpea.serve.scratch import Scratch
from avpea.serve.settings import Settings
from avpea.serve.videos import Video, Videos
from avpea.serve.work import Piece, Work

__all__ = ["Server"]

BATCH = 8


class Server:
    """A server's parts, for the functions that answer requests.

    Args:
        settings: What it offers.
        models: Its runs; loaded from `settings.runs` if there are none yet.
        loading: How runs are loaded, for `Models`.

    Attributes:
        settings: What it offers.
        monitor: Counts and times.
        models: The runs.
        engine: What computes.
        work: What does pieces of work.
        videos: The videos.
        sessions: Browsers that have shown the token.
        reviews: What people say happens in the videos.
        query: The library; None without one.

    Raises:
        AvpeaError: A run or the library cannot be opened, or can do nothing here.
    """

    def __init__(self, settings: Settings, **loading: Any) -> None:
        self.settings, self.monitor = settings, Monitor()
        self.models = Models(**loading)
        for source in settings.runs:
            self.models.load(source)
        self.query = self._opened(settings.library, loading.get("trust", False)) if settings.library else None
        if self.query is not None:
            self.query.library.warm()
        require_useful(self.models.all(), settings.library)
        self.sessions = Sessions(settings.token)
        self.engine = Engine(BATCH, self.monitor.batched)
        self.work = Work(settings.at_once, settings.waiting, settings.deadline_seconds)
        self.monitor.watch(self.work)
        self.scratch = Scratch()
        self.videos = Videos(settings, self.scratch)
        self.reviews = Reviews(*homes(settings.folder))
        if settings.folder is not None:
            remove_leftovers(settings.folder, MANIFEST)  # of a server that was killed while it wrote one
        self._reloading = threading.Lock()
        self.ready = True

    def close(self) -> None:
        """End all work, and remove the uploads."""
        if not self.ready:
            return
        self.ready = False
        self.work.close()
        self.engine.close()
        self.scratch.close()

    @property
    def kinds(self) -> list[str]:
        """Kinds of questions about a video that some run answers."""
        return sorted({one for run in self.models.all() for one in run.can} - {"search"})

    @property
    def library_is_own(self) -> bool:
        """Whether this user made the library, so that the paths in it are no stranger's."""
        return self.query is not None and self.query.library.own

    def described(self, run: Run) -> dict[str, Any]:
        """A run for the API; it can search if the library is its own."""
        about = run.described()
        if self.query is None or self.query.predictor.model is not run.predictor.model:
            about["can"] = [one for one in about["can"] if one != "search"]
        return about

    def reload(self, name: str) -> Run:
        """Load a run again; the library goes on with it, if it is still the model that indexed it.

        Raises:
            Problem: There is no such run.
            AvpeaError: It cannot be loaded; the one before stays.
        """
        with self._reloading:  # one after another: each goes on from the run and the library of the one before
            before, query = self.models.get(name), self.query
            run = self.models.reload(name)
            of_library = query is not None and query.predictor.model is before.predictor.model
            if query is not None and of_library and run.predictor.info.model == query.library.about["model"]:
                self.query = query.with_model(run.predictor)
            return run

    def predictor(self, run: Run, piece: Piece, video: Video) -> ServedPredictor:
        """The model of a run for a piece of work on a video."""
        seconds = video.info.duration_seconds if video.info is not None else 0.0
        return ServedPredictor(run.predictor, self.engine, piece, seconds)

    def require_library(self) -> Query:
        """The library.

        Raises:
            Problem: There is none.
        """
        if self.query is None:
            raise Problem(404, "This server has no library; start it with --library LIB.", "no-library")
        return self.query

    def querying(self, piece: Piece) -> Query:
        """The library for a piece of work.

        Raises:
            Problem: There is none.
        """
        query = copy.copy(self.require_library())
        query.predictor = ServedPredictor(query.predictor, self.engine, piece, 0.0)
        return query

    def _opened(self, place: str, trust: bool) -> Query:
        """The library, with the run that indexed it, which is loaded if it is not among the server's."""
        library = Library(place)
        about = library.about
        for run in self.models.all():
            if "search" in run.can and run.predictor.info.model == about["model"]:
                return Query(place, run.source, predictor=run.predictor)
        source = str(about["run"])
        if not ((library.own or trust) and Path(source).exists()):
            raise AvpeaError(
                f"The library {place} was indexed by the run '{source}', which is not among those of the server; name "
                "it too: avpea serve RUN … --library LIB."
            )
        run = self.models.load(source)
        return Query(place, source, predictor=run.predictor)
