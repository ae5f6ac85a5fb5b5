"""MUSIC-AVQA (Li et al., CVPR 2022), its second version (Liu et al., WACV 2024), and any data set in their form.

    root/
      json/avqa-train.json avqa-val.json avqa-test.json    questions; `json_update` holds the corrected release
      MUSIC-AVQA-videos-Real/<video_id>.mp4                or any other folder directly below root, or root itself

The splits divide the questions, not the videos: a video can have questions in several splits. A sample is a video with
all its questions of one split.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from avpea.data.readers._base import Reader
from avpea.data.readers._files import safe, source, videos_by_stem
from avpea.data.readers._options import AnnotatedOptions
from avpea.data.readers._question_rows import Row, read_rows
from avpea.errors import DataError
from avpea.labels import SPLITS, Annotations, Question, QuestionLabels, QuestionSample, look_alikes, shortened
from avpea.labels.questions import QuestionVocabulary, build_vocabulary
from avpea.tables import how_many

__all__ = ["EXTENSION", "MusicAVQAOptions", "MusicAVQAReader", "read"]

_FOLDERS = ("", "json", "avqa")
_VERSIONS = ("balance", "bias")
LAVISH_SECONDS = 1.95  # of sound at each moment
_LAYOUT = "expected avqa-train.json, avqa-val.json, avqa-test.json, in MUSIC-AVQA's form"


@dataclass(frozen=True)
class MusicAVQAOptions(AnnotatedOptions):
    """Options of MUSIC-AVQA.

    Attributes:
        version: Version of the annotation files: `balance` or `bias` (v2.0), `real` or `fake` (such videos only); empty
            means files without a version in their name, or else the only version there.
    """

    version: str = ""


def read(options: MusicAVQAOptions) -> Annotations:
    """Read the annotations below `options.root`; the videos need not exist.

    Args:
        options: `root` is the folder; `annotations` and `version` choose the files, `segments` and `seconds` the
            seconds of a video that are used.

    Returns:
        Samples in the order in which their videos first appear in a file; the classes are the answers.

    Raises:
        DataError: No annotation file is found, the version is ambiguous, or a row is malformed.
    """
    root = Path(options.root)
    if not root.is_dir():
        raise DataError(f"There is no folder {root} (--data.root); {_LAYOUT}, and videos below it.")
    folder, files = _files(root, options)
    rows = {split: read_rows(files[split]) if split in files else [] for split in SPLITS}
    kept = {split: [row for row in found if not row.deleted] for split, found in rows.items()}
    known = kept["train"] or [row for split in SPLITS for row in kept[split]]
    vocabulary = build_vocabulary((r.question.words, r.question.template, r.question.answer) for r in known)
    videos = videos_by_stem(root)
    splits = {split: tuple(_samples(kept[split], split, videos, root, options)) for split in SPLITS}
    sources = {split: source(root, path, _holds(kept[split])) for split, path in files.items()}
    notes = [f"{split}: {found}." for split, found in sources.items()]
    notes += _file_notes(files, rows) + _notes(kept, vocabulary) + look_alikes(vocabulary.answers, "answers")
    named = [row for split in SPLITS for row in kept[split]]
    notes += videos.doubts([*(row.video_id for row in named), *(row.sound_id for row in named if row.sound_id)])
    return Annotations(
        f"MUSIC-AVQA form, {folder.resolve().name}", root, QuestionLabels(vocabulary), splits, tuple(notes), sources
    )


def _files(root: Path, options: MusicAVQAOptions) -> tuple[Path, dict[str, Path]]:
    """The folder and the file of each split that has one."""
    folders = [root / options.annotations] if options.annotations else [root / name for name in _FOLDERS]
    for folder in folders:
        files = {split: path for split in SPLITS if (path := _file(folder, split, options.version)) is not None}
        if files:
            return folder, files
    where = f"{folders[0]} (data.annotations)" if options.annotations else f"{root}, {root}/json or {root}/avqa"
    wanted = f" of the version '{options.version}'" if options.version else ""
    near = sorted(
        {path.parent for path in root.glob("*/avqa-*.json")} | {p.parent for p in root.glob("*/*/avqa-*.json")}
    )
    hint = f" Such files are in {near[0]}: point --data.annotations there." if near else ""
    raise DataError(f"There are no questions{wanted} in {where}; {_LAYOUT}.{hint}")


def _file(folder: Path, split: str, version: str) -> Path | None:
    """The annotation file of a split; None if there is none.

    Raises:
        DataError: There are several versions, and `version` is empty.
    """
    spellings = [split, "valid"] if split == "val" else [split]

    def named(version: str) -> Path | None:
        patterns = ("avqa-{s}_{v}.json", "{s}_{v}.json", "{v}_{s}.json") if version else ("avqa-{s}.json",)
        paths = [folder / pattern.format(s=s, v=version) for s in spellings for pattern in patterns]
        return next((path for path in paths if path.is_file()), None)

    found = named(version)
    if found is not None or version:
        return found
    versions = [name for name in _VERSIONS if named(name)]
    if len(versions) > 1:
        raise DataError(f"{folder} holds several versions ({', '.join(versions)}); choose one with --data.version.")
    return named(versions[0]) if versions else None


def _samples(
    rows: Sequence[Row], split: str, videos: Mapping[str, Path], root: Path, options: MusicAVQAOptions
) -> Iterator[QuestionSample]:
    by_video: dict[tuple[str, str], list[Question]] = defaultdict(list)
    for row in rows:
        by_video[row.video_id, row.sound_id].append(row.question)

    def file(video_id: str) -> Path:
        return videos.get(video_id, root / "videos" / f"{video_id}.mp4")

    for number, ((video_id, sound_id), questions) in enumerate(by_video.items()):
        yield QuestionSample(
            key=f"{split}-{number:05d}-{safe(video_id)}",
            video_id=video_id,
            video=file(video_id),
            start_seconds=0.0,
            segments=options.segments,
            split=split,
            seconds=options.seconds,
            sound_seconds=LAVISH_SECONDS if options.seconds == "lavish" else 1.0,
            sound=file(sound_id) if sound_id else None,
            questions=tuple(questions),
        )


def _holds(rows: Sequence[Row]) -> str:
    return f"{how_many(len(rows), 'question')} about {how_many(len({row.video_id for row in rows}), 'video')}"


def _file_notes(files: Mapping[str, Path], rows: Mapping[str, Sequence[Row]]) -> list[str]:
    notes = []
    lacking = [split for split in SPLITS if split not in files]
    if lacking:
        notes.append(f"There is no file of {' and none of '.join(lacking)} questions.")
    if "train" in lacking:
        notes.append("Without training questions, words and answers are those of the others; nothing can be trained.")
    deleted = sum(row.deleted for found in rows.values() for row in found)
    if deleted:
        notes.append(f"{deleted} questions are marked as deleted and were left out.")
    return notes


def _notes(rows: Mapping[str, Sequence[Row]], vocabulary: QuestionVocabulary) -> list[str]:
    notes = []
    for split, found in rows.items():
        repeated: dict[str, list[Row]] = defaultdict(list)
        for row in found:
            if row.question.question_id:
                repeated[row.question.question_id].append(row)
        several = [group for group in repeated.values() if len(group) > 1]
        if several:
            conflicting = sum(len({row.question.answer for row in group}) > 1 for group in several)
            many = how_many(len(several), "question id occurs", "question ids occur")
            notes.append(
                f"{split}: {many} more than once, {conflicting} of them with conflicting answers, of which at most one "
                "can be correct."
            )
        strange = sorted({r.question.answer for r in found if vocabulary.answer_index(r.question.answer) < 0})
        if strange:
            count = sum(row.question.answer in strange for row in found)
            many = how_many(count, "question has an answer", "questions have answers")
            notes.append(f"{split}: {many} that no training question has, so always wrong: {shortened(strange)}.")
        unknown = sorted({word for row in found for word in vocabulary.indices(row.question.words)[1]})
        if unknown:
            many = how_many(len(unknown), "word")
            notes.append(f"{split}: {many} left out, which no training question has: {shortened(unknown)}.")
        cut = [" ".join(row.question.words) for row in found if vocabulary.is_cut(row.question.words)]
        if cut:
            many = how_many(len(cut), "question has", "questions have")
            notes.append(
                f"{split}: {many} more than {how_many(vocabulary.length, 'word')}, the most in training, and the rest "
                f"is left out, such as in '{cut[0]:.200}'."
            )
        borrowed = sum(bool(row.sound_id) for row in found)
        if borrowed:
            many = how_many(borrowed, "question is", "questions are")
            notes.append(f"{split}: {many} about a video with the sound of another one.")
    shared = set.union(*map(set, _shared(rows).values())) if rows else set()
    if shared:
        many = how_many(len(shared), "video has", "videos have")
        notes.append(f"{many} questions in more than one split: the splits are of questions.")
    return notes


def _shared(rows: Mapping[str, Sequence[Row]]) -> dict[str, set[str]]:
    ids = {split: {row.video_id for row in found} for split, found in rows.items()}
    return {f"{a}/{b}": ids[a] & ids[b] for a, b in (("train", "val"), ("train", "test"), ("val", "test"))}


class MusicAVQAReader(Reader):
    """MUSIC-AVQA, and data sets in its form."""

    labels = QuestionLabels
    Options = MusicAVQAOptions
    read = staticmethod(read)


EXTENSION = MusicAVQAReader
