"""Reading samples from shards: bytes of a tar file at a place that the index gives, and nothing is taken on trust.

A member is what the index says, or it is refused: by its header in the tar file, which must be of a regular file with
that name and size, and by its hash. Nothing is unpacked under a name that a shard gives.
"""

import hashlib
import json
import math
import re
import tarfile
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path, PurePath, PurePosixPath
from typing import Any

import numpy as np
import torch
from torch import Tensor

from avpea.data._places import Unreachable, is_url, read_bytes, size_of
from avpea.errors import DataError, MediaError
from avpea.labels import MEDIA_SUFFIXES, Member, Packed, Sample, Shard

__all__ = [
    "DECODED",
    "as_npy",
    "packed_bytes",
    "packed_frame",
    "packed_tensors",
    "require_settings",
    "require_shards",
    "require_size",
    "require_whole",
    "suffix_of",
    "unpacked",
]

DECODED = {"frames": "frames.npy", "log_mel": "log_mel.npy"}  # endings of the members of a decoded sample
BLOCK = tarfile.BLOCKSIZE  # bytes of a member's header
_NPY = re.compile(
    rb"\x93NUMPY\x01\x00..\{'descr': '(\|u1|<f4)', 'fortran_order': False, "
    rb"'shape': \(([0-9]+(?:, [0-9]+)*),?\), \} *\n",
    re.DOTALL,
)
_KINDS = {b"|u1": np.uint8, b"<f4": np.float32}
_AT_ONCE = 16  # shards that are looked at over the network at a time
_PART = 16 << 20
_ANEW = "get the shard anew"


def packed_bytes(shard: Shard, member: Member) -> bytes:
    """The bytes of a member.

    Raises:
        DataError: They are not what the index says, or cannot be reached.
    """
    found = _read(shard, member.offset - BLOCK, member.size + BLOCK)
    if len(found) < member.size + BLOCK:
        raise DataError(f"{shard.place} is cut short: it ends inside of '{member.name}'; {_ANEW}.")
    _require_header(shard, member, found[:BLOCK])
    content = found[BLOCK:]
    if hashlib.sha256(content).hexdigest() != member.sha256:
        raise DataError(f"{shard.place} is damaged: '{member.name}' does not have its checksum; {_ANEW}.")
    return content


def _read(shard: Shard, first: int, count: int) -> bytes:
    try:
        return read_bytes(shard.place, first, count)
    except Unreachable as error:
        raise _gone(shard, error) from None


def _gone(shard: Shard, error: Unreachable) -> DataError:
    return DataError(f"{shard.place} cannot be read ({error}); put it where it was, or {_ANEW}.")


def _require_header(shard: Shard, member: Member, header: bytes) -> None:
    try:
        about = tarfile.TarInfo.frombuf(header, "utf-8", "surrogateescape")
    except tarfile.HeaderError:
        raise DataError(
            f"{shard.place} has no member at byte {member.offset - BLOCK}, where '{member.name}' should be; {_ANEW}."
        ) from None
    kind = "a file" if about.type in (tarfile.REGTYPE, tarfile.AREGTYPE) else "something that is no regular file,"
    if kind != "a file" or (about.name, about.size) != (member.name, member.size):
        raise DataError(
            f"{shard.place} has {kind} {about.name!r:.80} of {about.size} bytes where the index has '{member.name}' of "
            f"{member.size}; {_ANEW}, or all of them from one packing."
        )


def require_shards(samples: Iterable[Packed]) -> None:
    """Refuse shards that are not those of the index, as far as the size of each and its first member tell.

    Raises:
        DataError: One is missing, cut short, or another one.
    """
    firsts: dict[Shard, Member] = {}
    for one in samples:
        for member in one.members[:1]:
            if one.shard not in firsts or member.offset < firsts[one.shard].offset:
                firsts[one.shard] = member
    if any(is_url(shard.place) for shard in firsts):
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            list(pool.map(_require_shard, *zip(*firsts.items(), strict=True)))
    else:
        for shard, member in firsts.items():
            _require_shard(shard, member)


def _require_shard(shard: Shard, first: Member) -> None:
    require_size(shard)
    _require_header(shard, first, _read(shard, first.offset - BLOCK, BLOCK))


def require_size(shard: Shard) -> None:
    """Refuse a shard that is missing, or of another size than the index says.

    Raises:
        DataError: It is.
    """
    try:
        size = size_of(shard.place)
    except Unreachable as error:
        raise _gone(shard, error) from None
    if size != shard.size:
        what = "is cut short or another one" if size < shard.size else "is another one"
        raise DataError(f"{shard.place} {what}: it has {size:,} bytes, and the index says {shard.size:,}; {_ANEW}.")


def require_whole(shard: Shard) -> None:
    """Refuse a shard of which any byte is another one than when it was written.

    Raises:
        DataError: It is missing, or damaged.
    """
    require_size(shard)
    digest = hashlib.sha256()
    for first in range(0, shard.size, _PART):
        digest.update(_read(shard, first, min(_PART, shard.size - first)))
    if digest.hexdigest() != shard.sha256:
        raise DataError(f"{shard.place} is damaged: it does not have the checksum of the index; {_ANEW}.")


def require_settings(shard: Shard, wanted: Mapping[str, Any]) -> None:
    """Refuse a shard whose samples were decoded otherwise than they would be now.

    Raises:
        DataError: They were; says how.
    """
    if differs := _differences(shard.settings, json.dumps(wanted, sort_keys=True)):
        raise DataError(
            f"{shard.place} holds samples that were decoded otherwise ({differs}); set the recipe to what they are, or "
            "pack the data set again for this recipe."
        )


@cache
def _differences(there: str, here: str) -> str:
    # Which version of the decoder it was is no difference that a recipe could have.
    packed, wanted = ({**json.loads(text), "decoder": ""} for text in (there, here))
    names = [name for name in {**packed, **wanted} if packed.get(name) != wanted.get(name)]
    return "; ".join(f"{name}: {packed.get(name)} there, {wanted.get(name)} here" for name in names)


@contextmanager
def unpacked(sample: Sample) -> Iterator[Sample]:
    """The sample with its files where FFmpeg can read them: if it is packed, in a folder for this block alone.

    Raises:
        DataError: Its shard is damaged, or cannot be read.
        MediaError: Of the block; it names the packed file.
    """
    if sample.packed is None:
        yield sample
        return
    if sample.packed.reason:
        raise MediaError(sample.video, sample.packed.reason)
    if sample.packed.decoded:
        raise MediaError(sample.video, "it was decoded before it was packed, so the video is not in the shards.")
    with tempfile.TemporaryDirectory(prefix="avpea-") as folder:
        names = [sample.video, *([sample.sound] if sample.sound is not None else [])]
        files = {}
        for number, (name, member) in enumerate(zip(names, sample.packed.members, strict=True)):
            files[Path(folder, f"{number}{suffix_of(PurePosixPath(member.name))}")] = name
            path = list(files)[number]
            path.write_bytes(packed_bytes(sample.packed.shard, member))
        video, *sound = files
        try:
            yield replace(sample, video=video, sound=sound[0] if sound else None, packed=None)
        except MediaError as error:
            if error.path not in files:
                raise
            raise type(error)(files[error.path], error.reason) from None


def suffix_of(path: PurePath) -> str:
    """The ending of a media file in a shard."""
    suffix = path.suffix.lower()
    return suffix if suffix in MEDIA_SUFFIXES else ".bin"


def as_npy(tensor: Tensor) -> bytes:
    """A tensor of bytes or of float32 as an .npy file."""
    values = tensor.contiguous().numpy()
    kind = "|u1" if values.dtype == np.uint8 else "<f4"
    assert values.dtype in (np.uint8, np.float32)
    sizes = ", ".join(map(str, values.shape)) + ("," if values.ndim == 1 else "")
    header = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': ({sizes}), }}"
    header += " " * (-(len(header) + 11) % 64) + "\n"
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode() + values.astype(kind).tobytes()


def packed_tensors(packed: Packed) -> dict[str, Tensor]:
    """The tensors of a decoded sample: `frames` and `log_mel`.

    Raises:
        DataError: Its shard is damaged, cannot be read, or holds something else.
    """
    return {
        name: _from_npy(packed.shard, member, packed_bytes(packed.shard, member))
        for name, member in zip(DECODED, packed.members, strict=True)
    }


def _from_npy(shard: Shard, member: Member, content: bytes) -> Tensor:
    found = _NPY.match(content)
    kind = _KINDS[found[1]] if found else np.uint8
    sizes = [int(size) for size in found[2].split(b",")] if found else []
    values = memoryview(content)[found.end() :] if found else memoryview(b"")
    if not sizes or len(sizes) > 5 or len(values) != np.dtype(kind).itemsize * math.prod(sizes):
        raise DataError(f"{shard.place}: '{member.name}' is no .npy file of avpea's; pack the data set anew.")
    return torch.from_numpy(np.frombuffer(values, kind).reshape(sizes).copy())


def packed_frame(packed: Packed, index: int, segments: int) -> Tensor:
    """A frame of a decoded sample whose checksum was compared before: nothing else is read.

    Raises:
        DataError: Its shard is damaged, or cannot be read.
    """
    member = packed.members[0]
    side = json.loads(packed.shard.settings)["frame_size"]
    count = side * side * 3
    found = _read(packed.shard, member.offset + member.size - (segments - index) * count, count)
    if len(found) < count:
        raise DataError(f"{packed.shard.place} is cut short: it ends inside of '{member.name}'; {_ANEW}.")
    return torch.frombuffer(bytearray(found), dtype=torch.uint8).view(side, side, 3)
