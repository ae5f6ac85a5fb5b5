"""`avpea segment`."""

import argparse
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from avpea.command import Command, a_path, about_videos, add_missing, add_run, add_runtime, add_videos, names_several
from avpea.errors import AvpeaError
from avpea.files import replacing, unwritable, writing
from avpea.progress import say

__all__ = ["COMMANDS"]


def _arguments(parser: argparse.ArgumentParser) -> None:
    add_run(parser)
    add_runtime(parser)
    add_videos(parser)
    # Not `out`, which other commands have for files of other kinds.
    about = "folder for a mask of each second, VIDEO_SECOND.png, in the size of the video as displayed"
    parser.add_argument("--out", dest="masks", type=a_path, metavar="DIR", help=about)
    parser.add_argument("--csv", type=a_path, metavar="FILE", help="write a table of all objects, failures included")
    about = "draw each second with its mask (.png, .pdf, .svg); a folder for several videos"
    parser.add_argument("--plot", type=a_path, metavar="PNG", help=about)
    about = "write a film of each second's frame with its mask, and the sound, of one video"
    parser.add_argument("--film", type=a_path, metavar="MP4", help=about)
    parser.add_argument("--overwrite", action="store_true", help="replace files that exist")
    add_missing(parser)


def _segment(options: argparse.Namespace) -> None:
    from avpea import plot
    from avpea.batch import find_jobs, require_other_files

    if options.plot and options.plot.suffix.lower() == ".mp4":
        raise AvpeaError(f"--plot {options.plot} draws a picture; for a film of the masks, use --film {options.plot}.")
    if options.plot and not names_several(options.video):
        plot.check(options.plot)
    jobs = find_jobs(options.video)
    if options.film:
        plot.check_film(options.film)
        if names_several(options.video):
            raise AvpeaError("--film writes one video; give a single video, or leave --film out.")
        require_other_files([options.film], jobs)
        if options.film.exists() and not options.overwrite:
            raise AvpeaError(f"{options.film} exists; --overwrite replaces it.")
    if options.masks:
        _require_free(options, jobs)
    for _, video, answer in about_videos(options, "segment", jobs=jobs, plot=options.plot):
        if options.masks:
            _write_masks(options, video, answer)
        if options.film:
            clip = answer.clip
            plot.film(
                options.film, frames=clip.frames, masks=answer.masks, frame_aspect=clip.frame_aspect,
                waveform=clip.waveform,
            )  # fmt: skip
            say(f"Film: {options.film}")


def _require_free(options: argparse.Namespace, jobs: Sequence[Any]) -> None:
    """Refuse masks that would replace files, and names that several videos share, before any work."""
    if options.masks.exists() and not options.masks.is_dir():
        raise AvpeaError(f"{options.masks} is a file; --out names the folder of the masks.")
    stems = [job.video.stem for job in jobs]
    twice = sorted({stem for stem in stems if stems.count(stem) > 1})
    if twice:
        raise AvpeaError(
            f"Several videos are called {twice[0]}, and so would be their masks; give them in two commands."
        )
    there = [path for stem, _, path in _masks_in(options.masks) if stem in stems]
    if there and not options.overwrite:
        raise AvpeaError(f"{min(there)} exists; --overwrite replaces masks, and --out DIR names another folder.")
    with writing(options.masks):
        options.masks.mkdir(parents=True, exist_ok=True)
    if obstacle := unwritable(options.masks):
        raise AvpeaError(f"{options.masks} cannot be written ({obstacle}); give permission, or choose another place.")


def _masks_in(folder: Path) -> Iterator[tuple[str, int, Path]]:
    """The masks that a folder holds, each with the name of its video, without ending, and its second."""
    for path in folder.iterdir() if folder.is_dir() else ():
        if found := re.fullmatch(r"(.+)_([0-9]+)\.png", path.name, re.DOTALL):
            yield found[1], int(found[2]), path


def _write_masks(options: argparse.Namespace, video: Path, answer: Any) -> None:
    """The masks of a video, each in its size."""
    from avpea.command import reading_of
    from avpea.media import probe

    reading = reading_of(options)
    info = probe(video, audio_track=reading["audio_track"], video_track=reading["video_track"])
    height, width = (info.height, info.width) if info.has_video else answer.masks.shape[1:]
    for second, picture in enumerate(_pictures(answer, (height, width))):
        with replacing(options.masks / f"{video.stem}_{second}.png") as aside:
            picture.save(aside, "PNG")
    for stem, second, path in list(_masks_in(options.masks)) if options.overwrite else ():
        if stem == video.stem and second >= len(answer.masks):  # of a longer video of that name
            path.unlink()
    say(f"Masks: {options.masks}/{video.stem}_0.png to {video.stem}_{len(answer.masks) - 1}.png")


def _pictures(answer: Any, size: tuple[int, int]) -> Iterator[Any]:
    """Black and white without classes, else in the classes' numbers with Pascal VOC's palette."""
    import torch.nn.functional as F
    from PIL import Image

    from avpea.data.colours import colour_of

    palette = [channel for number in range(256) for channel in colour_of(number).to_bytes(3, "big")]
    for second, mask in enumerate(answer.masks):
        if len(answer.class_names) == 1:
            chances = answer.chances[second][None, None].float()
            large = F.interpolate(chances, size, mode="bilinear", align_corners=False)[0, 0] > 0.5
            yield Image.fromarray(large.numpy())
        else:
            large = F.interpolate(mask[None, None].float(), size, mode="nearest-exact")[0, 0]
            picture = Image.fromarray(large.byte().numpy(), mode="P")
            picture.putpalette(palette)
            yield picture


COMMANDS = [
    Command(
        "segment",
        "Mask what sounds in videos, second by second.",
        "avpea segment runs/NAME video.mp4 --out masks --plot overlay.png --film overlay.mp4",
        _arguments,
        _segment,
        json=True,
        quiet=True,
    )
]
