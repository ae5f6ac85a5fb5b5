"""Files of named tensors: safetensors with checksums, so that any byte that has changed in them is found."""

import hashlib
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from avpea.files import write_bytes
from avpea.stopping import interruptible
from avpea.trust import is_own, sign

__all__ = [
    "Shape",
    "TensorFile",
    "Unreadable",
    "all_finite",
    "crc_of",
    "digest_of",
    "kind_of",
    "read_tensors",
    "write_tensors",
]

# Keys that a file's metadata has beside the given ones: checksums of the tensors, and of all metadata with that, and
# the signature of the latter.
_TENSORS, _ALL, _SIGNATURE = "tensors_sha256", "sha256", "signature"
# What safetensors and torch raise for files that are none, or hold types that torch has not.
_UNREADABLE = (SafetensorError, OSError, ValueError, TypeError, AttributeError, LookupError, ArithmeticError)


# safetensors' names of the types that a model of avpea trains or keeps.
_KINDS = {
    torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16", torch.int64: "I64",
    torch.int32: "I32", torch.int16: "I16", torch.int8: "I8", torch.uint8: "U8", torch.bool: "BOOL",
}  # fmt: skip


class Unreadable(Exception):
    """A file cannot be read, or is damaged; the text is the reason."""


@dataclass(frozen=True)
class Shape:
    """The type and the shape of a tensor in a file, as safetensors writes them: `F32`, (3, 4)."""

    kind: str
    sizes: tuple[int, ...]


@dataclass(frozen=True)
class TensorFile:
    """What a file of tensors holds.

    Attributes:
        metadata: Text by key, without checksums and signature.
        shapes: Type and shape of each tensor, by name.
        tensors: The tensors by name; empty if only the description was read.
        checked: Whether the file has checksums, with which its content agrees.
        own: Whether this user wrote it, by its signature.
    """

    metadata: dict[str, str]
    shapes: dict[str, Shape]
    tensors: dict[str, Tensor]
    checked: bool
    own: bool


def all_finite(tensor: Tensor) -> bool:
    """Whether no value is NaN or infinite.

    A sum is finite only if every value is, and is quicker than a look at each: that is for sums that are not, as those
    of large finite values may be, too.
    """
    if tensor.is_floating_point() and tensor.itemsize == 1:
        tensor = tensor.float()  # torch adds up no floats of eight bits
    return bool(tensor.sum().isfinite()) or bool(tensor.isfinite().all())


def write_tensors(
    path: Path,
    tensors: Mapping[str, Tensor],
    metadata: Mapping[str, str],
    *,
    signed: bool = False,
) -> None:
    """Write a safetensors file with checksums, atomically.

    Args:
        path: The file.
        tensors: Tensors by name, on any device.
        metadata: Text by key.
        signed: Whether to sign it as this user's own.

    Raises:
        WriteError: The file cannot be written.
    """
    plain = {key: value.detach().cpu().contiguous() for key, value in tensors.items()}
    about = {**metadata, _TENSORS: digest_of(plain)}
    about[_ALL] = _of_metadata(about)
    if signed and (signature := sign(about[_ALL])):
        about[_SIGNATURE] = signature
    # Not `save_file`, which has a temporary file of its own that a kill would leave, and errors without a number.
    write_bytes(path, save(plain, about))


def read_tensors(path: Path, *, values: bool = True) -> TensorFile:
    """Read a safetensors file, and compare it with its checksums if it has any.

    Args:
        path: The file.
        values: Whether to read the tensors, and not only the metadata.

    Raises:
        Unreadable: It is no safetensors file, or is damaged.
    """
    try:
        # torch takes an interruption for a wrong type, and the file would seem damaged.
        with interruptible(), safe_open(path, framework="pt") as opened:
            about = dict(opened.metadata() or {})
            names = list(opened.keys())
            slices = {name: opened.get_slice(name) for name in names}
            shapes = {name: Shape(one.get_dtype(), tuple(one.get_shape())) for name, one in slices.items()}
            tensors = {name: opened.get_tensor(name) for name in names} if values else {}
    except _UNREADABLE as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise Unreadable(f"cannot be read as safetensors ({reason})") from None
    wanted, of_tensors, signature = about.pop(_ALL, None), about.get(_TENSORS), about.pop(_SIGNATURE, "")
    if (wanted is None) != (of_tensors is None) or (wanted is not None and wanted != _of_metadata(about)):
        raise Unreadable("is damaged: its description does not have the checksum that was written with it")
    if values and of_tensors is not None and of_tensors != digest_of(tensors):
        raise Unreadable("is damaged: its tensors do not have the checksum that was written with them")
    about.pop(_TENSORS, None)
    own = wanted is not None and is_own(wanted, signature)
    return TensorFile(about, shapes, tensors, wanted is not None, own)


def kind_of(tensor: Tensor) -> str:
    """The type of a tensor as safetensors writes it."""
    return _KINDS.get(tensor.dtype, str(tensor.dtype))


def _of_metadata(metadata: Mapping[str, str]) -> str:
    digest = hashlib.sha256()
    for key, value in sorted(metadata.items()):
        for text in (key, value):
            found = text.encode()
            digest.update(f"{len(found)} ".encode())
            digest.update(found)
    return digest.hexdigest()


def digest_of(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 of tensors with their names, types and shapes, in any order."""
    digest = hashlib.sha256()
    for part in _parts(tensors):
        digest.update(part)
    return digest.hexdigest()


def crc_of(tensors: Mapping[str, Tensor]) -> int:
    """CRC-32 of what `digest_of` covers: for accidents only, in less than half of its time."""
    found = 0
    for part in _parts(tensors):
        found = zlib.crc32(part, found)
    return found


def _parts(tensors: Mapping[str, Tensor]) -> Iterator[bytes | memoryview]:
    for name, tensor in sorted(tensors.items()):
        yield f"{len(name)} {name} {tensor.dtype} {tuple(tensor.shape)}\n".encode()
        if tensor.numel():
            yield tensor.reshape(-1).view(torch.uint8).numpy().data
