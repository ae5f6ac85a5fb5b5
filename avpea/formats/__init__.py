"""Stretches of a video in the formats of other programs: WebVTT, SubRip, Audacity labels, ELAN, and tables.

WebVTT is as in https://www.w3.org/TR/webvtt1/, ELAN as in https://www.mpi.nl/tools/elan/EAFv3.0.xsd, and Audacity's
labels as in its manual. SubRip has no standard; it is written so that FFmpeg and players show the text as it is.

What is read may be a stranger's: it is bounded, XML with a document type is refused, and every fault is a sentence.
"""

from avpea.formats._read import READABLE, read
from avpea.formats._stretch import Stretch
from avpea.formats._write import csv_line, file_cell, rendered

__all__ = ["FORMATS", "READABLE", "SUFFIXES", "Stretch", "csv_line", "file_cell", "read", "rendered"]

# The ending of a file's name, by format.
SUFFIXES = {"vtt": ".vtt", "srt": ".srt", "audacity": ".txt", "elan": ".eaf", "csv": ".csv"}
FORMATS = tuple(SUFFIXES)
