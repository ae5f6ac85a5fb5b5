"""VALOR-32K (Chen et al., 2023), and data sets in its form: videos with captions.

    root/
      captions/desc_train.json desc_val.json desc_test.json   [{"video_id": "<YouTube id>_<start>_<end>",
                                                                "desc": "..."}]
      videos/<video_id>.mp4                                   or any other folder directly below root, or root itself

or, in the form that VALOR's public code reads, with ids and captions in separate files:

      train_id.json val_id.json test_id.json                  ["<video_id>", ...]
      txt_mapper.json                                         {"<video_id>": "..." or ["...", ...]}
"""

import functools
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from avpea.data.readers._base import Reader
from avpea.data.readers._files import read_json, require_stem, safe, source, videos_by_stem
from avpea.data.readers._options import AnnotatedOptions
from avpea.errors import DataError
from avpea.labels import SPLITS, Annotations, CaptionLabels, CaptionSample
from avpea.tables import how_many

__all__ = ["EXTENSION", "VALOR32KReader", "read"]

_FOLDERS = ("", "captions", "annotations")
_DESCRIPTIONS = ("desc_{}.json", "descs_cap_{}.json", "descs_ret_{}.json", "desc_{}_partial.json")
_MAPPERS = ("txt_mapper.json", "txt_mapper_en.json")
_LAYOUT = "expected desc_train.json, desc_val.json, desc_test.json, in VALOR-32K's form"

Captions = dict[str, list[str]]


def read(options: AnnotatedOptions) -> Annotations:
    """Read the captions below `options.root`; the videos need not exist.

    Args:
        options: `root` is the folder, `annotations` the folder of the captions if it is another one; `segments` and
            `seconds` choose the seconds of a video that are used.

    Raises:
        DataError: No file of captions is found, or a row is malformed.
    """
    root = Path(options.root)
    if not root.is_dir():
        raise DataError(f"There is no folder {root} (--data.root); {_LAYOUT}, and videos below it.")
    folder, found = _find(root, options.annotations)
    videos = videos_by_stem(root)
    captions = {split: reader(path) for split, (path, reader) in found.items()}
    splits = {split: tuple(_samples(captions.get(split, {}), split, videos, root, options)) for split in SPLITS}
    sources = {split: source(root, path, _holds(captions[split])) for split, (path, _) in found.items()}
    notes = [f"{split}: {one}." for split, one in sources.items()]
    lacking = [split for split in SPLITS if split not in found]
    if lacking:
        notes.append(f"There is no file of {' and none of '.join(lacking)} captions.")
    notes += videos.doubts(name for some in captions.values() for name in some)
    name = f"VALOR-32K form, {folder.resolve().name}"
    return Annotations(name, root, CaptionLabels(), splits, tuple(notes), sources)


def _find(root: Path, annotations: str) -> tuple[Path, dict[str, Any]]:
    """The folder of the captions, and the file of each split with the function that reads it."""
    folders = [root / annotations] if annotations else [root / name for name in _FOLDERS]
    for folder in folders:
        described = {
            split: (path, _described)
            for split in SPLITS
            if (path := _first(folder, [name.format(split) for name in _DESCRIPTIONS])) is not None
        }
        if described:
            return folder, described
        mapper = _first(folder, _MAPPERS)
        listed = {split: path for split in SPLITS if (path := folder / f"{split}_id.json").is_file()}
        if mapper is not None and listed:
            reader = functools.partial(_listed, table=_mapped(mapper), mapper=mapper)
            return folder, {split: (path, reader) for split, path in listed.items()}
    near = sorted({path.parent for depth in ("*", "*/*") for path in root.glob(f"{depth}/desc*.json")})
    hint = f" Such files are in {near[0]}: point --data.annotations there." if near else ""
    raise DataError(f"There are no captions in {' or '.join(map(str, folders))}; {_LAYOUT}.{hint}")


def _first(folder: Path, names: Sequence[str]) -> Path | None:
    return next((folder / name for name in names if (folder / name).is_file()), None)


def _described(path: Path) -> Captions:
    rows = read_json(path)
    if not isinstance(rows, list) or not rows:
        raise DataError(f"{path}: expected a list of captions, [{{'video_id': ..., 'desc': ...}}].")
    found: Captions = defaultdict(list)
    for number, row in enumerate(rows, start=1):
        where = f"{path}, caption {number}"
        if not isinstance(row, Mapping):
            raise DataError(f"{where}: found {row!r:.60}; expected an object with video_id and desc.")
        caption = row.get("desc", row.get("caption"))
        found[_video_id(where, row.get("video_id"))].append(_caption(where, caption))
    return dict(found)


def _mapped(path: Path) -> Captions:
    table = read_json(path)
    if not isinstance(table, Mapping):
        raise DataError(f"{path}: expected an object of video ids with their captions.")
    found: Captions = {}
    for name, captions in table.items():
        where = f"{path}, '{name}'"
        found[name] = [_caption(where, one) for one in (captions if isinstance(captions, list) else [captions])]
    return found


def _listed(path: Path, table: Captions, mapper: Path) -> Captions:
    names = read_json(path)
    if not isinstance(names, list) or not names:
        raise DataError(f"{path}: expected a list of video ids.")
    ids = [_video_id(f"{path}, id {number}", name) for number, name in enumerate(names, start=1)]
    without = [name for name in ids if not table.get(name)]
    if without:
        raise DataError(
            f"{path} lists {how_many(len(without), 'video')} without a caption in {mapper.name}, such as "
            f"'{without[0]}'."
        )
    return {name: table[name] for name in ids}


def _video_id(where: str, name: Any) -> str:
    return require_stem(where, f"video_id {name!r}", name)


def _caption(where: str, caption: Any) -> str:
    if not isinstance(caption, str) or not caption.strip():
        raise DataError(f"{where}: found the caption {caption!r}; expected text.")
    return " ".join(caption.split())


def _samples(
    captions: Captions, split: str, videos: Mapping[str, Path], root: Path, options: AnnotatedOptions
) -> Iterator[CaptionSample]:
    for number, (video_id, some) in enumerate(captions.items()):
        yield CaptionSample(
            key=f"{split}-{number:05d}-{safe(video_id)}",
            video_id=video_id,
            video=videos.get(video_id, root / "videos" / f"{video_id}.mp4"),
            start_seconds=0.0,
            segments=options.segments,
            split=split,
            seconds=options.seconds,
            captions=tuple(some),
        )


def _holds(captions: Captions) -> str:
    return f"{how_many(sum(map(len, captions.values())), 'caption')} of {how_many(len(captions), 'video')}"


class VALOR32KReader(Reader):
    """VALOR-32K, and data sets in its form."""

    labels = CaptionLabels
    Options = AnnotatedOptions
    read = staticmethod(read)


EXTENSION = VALOR32KReader
