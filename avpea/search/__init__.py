"""Searching your own videos: a library of indexed windows, and the best matches for a sentence or an example clip."""

from avpea.search._index import IndexReport, index
from avpea.search._library import Library
from avpea.search._query import Found, Query, search

__all__ = ["Found", "IndexReport", "Library", "Query", "index", "search"]
