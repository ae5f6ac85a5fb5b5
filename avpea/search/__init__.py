"""Search one's own videos: a library of indexed windows, and the best ones for a sentence or an example."""

from avpea.search._index import IndexReport, index
from avpea.search._library import Library
from avpea.search._query import Found, Query, search

__all__ = ["Found", "IndexReport", "Library", "Query", "index", "search"]
