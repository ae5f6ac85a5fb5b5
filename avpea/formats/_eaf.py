"""Reading ELAN's annotations: XML that somebody else wrote, without document types, entities and deep nesting."""

import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from typing import Any
from xml.parsers import expat

from avpea.errors import DataError

__all__ = ["elan_stretches"]

_DEPTH, _ELEMENTS = 30, 1_000_000


class _Refused(Exception):
    """Well-formed, but not what an annotation file has."""


def elan_stretches(content: bytes, source: str) -> Iterator[tuple[str, float, float, str]]:
    """Place, start, end and text of each annotation of the tier `events`, or of the only tier that has any.

    Raises:
        DataError: It is no XML, no file of ELAN, or one whose annotations have no times or several meanings.
    """
    root = _parsed(content, source)
    if root.tag != "ANNOTATION_DOCUMENT":
        raise DataError(f"{source}: its root is <{root.tag[:40]}>; expected <ANNOTATION_DOCUMENT>, as ELAN writes.")
    _require_milliseconds(root, source)
    times = {slot.get("TIME_SLOT_ID"): _milliseconds(slot, source) for slot in root.iter("TIME_SLOT")}
    for tier in _tiers(root, source):
        for holder in tier.iter("ANNOTATION"):
            one = next(iter(holder), None)
            if one is None or one.tag != "ALIGNABLE_ANNOTATION":
                tag, name = "nothing" if one is None else one.tag, tier.get("TIER_ID", "")
                raise DataError(f"{source}: the tier '{name[:60]}' has {tag[:40]}; expected annotations with times.")
            where = f"{source}, annotation {one.get('ANNOTATION_ID', '')[:40]}"
            start, end = (times.get(one.get(f"TIME_SLOT_REF{number}")) for number in (1, 2))
            if start is None or end is None:
                raise DataError(f"{where}: it has no time; align it in ELAN, or remove it.")
            yield where, start / 1000, end / 1000, one.findtext("ANNOTATION_VALUE") or ""


def _parsed(content: bytes, source: str) -> ET.Element:
    """The root; expat itself is asked, since a document type has to be refused before it can define anything."""
    parser, builder = expat.ParserCreate(), ET.TreeBuilder()
    parser.buffer_text = True
    open_now = elements = 0

    def start(tag: str, attributes: dict[str, str]) -> None:
        nonlocal open_now, elements
        open_now, elements = open_now + 1, elements + 1
        if open_now > _DEPTH or elements > _ELEMENTS:
            raise _Refused(f"more than {_DEPTH} levels or {_ELEMENTS:,} elements")
        builder.start(tag, attributes)

    def end(tag: str) -> None:
        nonlocal open_now
        open_now -= 1
        builder.end(tag)

    def refuse(*_: Any) -> None:
        raise _Refused("it has a document type (<!DOCTYPE>), which ELAN never writes; remove that")

    parser.StartElementHandler, parser.EndElementHandler = start, end
    parser.CharacterDataHandler, parser.StartDoctypeDeclHandler = builder.data, refuse
    try:
        parser.Parse(content, True)
        return builder.close()
    except expat.ExpatError as error:
        what = expat.ErrorString(error.code)
        raise DataError(f"{source}, line {error.lineno}: not XML ({what}); expected an .eaf file of ELAN.") from None
    except (_Refused, LookupError, ValueError) as error:  # the latter two for encodings that Python does not have
        raise DataError(f"{source}: {error}.") from None


def _require_milliseconds(root: ET.Element, source: str) -> None:
    header = root.find("HEADER")
    units = "milliseconds" if header is None else header.get("TIME_UNITS", "milliseconds")
    if units != "milliseconds":
        raise DataError(f"{source}: its times are in '{units[:40]}'; expected milliseconds.")
    moved = [one.get("TIME_ORIGIN") for one in root.iter("MEDIA_DESCRIPTOR") if one.get("TIME_ORIGIN", "0") != "0"]
    if moved:
        rule = "expected 0, so that times are those of the video; set the media offset to 0 in ELAN"
        raise DataError(f"{source}: the time origin of a video in it is {moved[0]!r:.40}; {rule}.")


def _milliseconds(slot: ET.Element, source: str) -> int | None:
    """A slot's time; one without is between its neighbours, and nobody has said where."""
    value = slot.get("TIME_VALUE")
    if value is None:
        return None
    if not re.fullmatch(r"\d{1,12}", value, re.ASCII):
        raise DataError(f"{source}: a time slot has the time {value!r:.40}; expected milliseconds, 0 or more.")
    return int(value)


def _tiers(root: ET.Element, source: str) -> list[ET.Element]:
    """The tiers `events`, `events 2`, … as avpea writes them; or the only one with annotations."""
    filled = [tier for tier in root.iter("TIER") if len(tier)]
    ours = [tier for tier in filled if re.fullmatch(r"events( \d+)?", tier.get("TIER_ID", ""), re.ASCII)]
    if ours or len(filled) < 2:
        return ours or filled
    names = ", ".join(f"'{tier.get('TIER_ID', '')[:40]}'" for tier in filled[:5])
    raise DataError(f"{source} has {len(filled)} tiers with annotations ({names}); rename the one to read 'events'.")
