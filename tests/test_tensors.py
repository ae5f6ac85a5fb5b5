"""Files of tensors: a byte that has changed anywhere in them is found, and only this user's signature is one."""

import random
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from avpea.tensors import Shape, Unreadable, kind_of, read_tensors, write_tensors

TENSORS = {
    "weight": torch.arange(12.0).reshape(3, 4), "steps": torch.tensor(7), "half": torch.ones(2, dtype=torch.bfloat16),
    "mask": torch.tensor([True, False]), "none": torch.zeros(0, 5), "turned": torch.arange(6).reshape(2, 3).T,
}  # fmt: skip
METADATA = {"format": "test", "note": "Müller", "empty": ""}


@pytest.fixture
def written(tmp_path: Path) -> Path:
    path = tmp_path / "file.safetensors"
    write_tensors(path, TENSORS, METADATA, signed=True)
    return path


def test_what_was_written_is_read(written: Path) -> None:
    found = read_tensors(written)
    assert found.metadata == METADATA
    assert (found.checked, found.own) == (True, True)
    assert found.tensors.keys() == TENSORS.keys()
    for name, value in TENSORS.items():
        assert torch.equal(found.tensors[name], value)
        assert found.shapes[name] == Shape(kind_of(value), tuple(value.shape))
    assert read_tensors(written, values=False).tensors == {}


def test_a_file_of_any_other_program_has_no_checksum(tmp_path: Path) -> None:
    save_file({"weight": torch.ones(2)}, tmp_path / "file.safetensors", {"format": "pt"})
    found = read_tensors(tmp_path / "file.safetensors")
    assert (found.checked, found.own, found.metadata) == (False, False, {"format": "pt"})


def test_any_changed_byte_is_found(written: Path) -> None:
    whole, dice = written.read_bytes(), random.Random(0)
    same = 0
    for place in range(0, len(whole), 3):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << dice.randrange(8)
        written.write_bytes(damaged)
        with suppress(Unreadable):
            found = read_tensors(written)
            # Only in the signature, and in spaces that pad the header, nothing changes of what the file says.
            assert found.metadata == METADATA
            assert all(torch.equal(found.tensors[name], value) for name, value in TENSORS.items())
            assert not found.own or whole[place : place + 1].isspace()
            same += 1
    assert same < 100


@pytest.mark.parametrize("length", [0, 7, 8, 100, -1])
def test_a_file_that_was_cut_short_is_found(written: Path, length: int) -> None:
    written.write_bytes(written.read_bytes()[:length])
    with pytest.raises(Unreadable, match="cannot be read as safetensors"):
        read_tensors(written)


def test_what_another_user_signed_is_not_own(written: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "other"))
    assert not read_tensors(written).own
    write_tensors(written, TENSORS, METADATA, signed=True)
    assert read_tensors(written).own
    assert (tmp_path / "other" / "avpea" / "key").stat().st_mode & 0o777 == 0o600
    monkeypatch.undo()
    assert not read_tensors(written).own


def test_a_description_that_was_changed_and_summed_again_is_not_own(written: Path) -> None:
    from safetensors import safe_open

    from avpea import tensors

    with safe_open(written, framework="pt") as file:
        metadata = dict(file.metadata())
    values = {key: value.clone() for key, value in load_file(written).items()}
    about = {key: value for key, value in metadata.items() if key not in ("sha256", "signature")} | {"note": "other"}
    save_file(values, written, about | {"sha256": tensors._of_metadata(about), "signature": metadata["signature"]})
    found = read_tensors(written)
    assert (found.checked, found.own, found.metadata["note"]) == (True, False, "other")


def test_without_a_place_for_a_key_nothing_is_signed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "file"))
    write_tensors(tmp_path / "x.safetensors", TENSORS, METADATA, signed=True)
    found = read_tensors(tmp_path / "x.safetensors")
    assert (found.checked, found.own) == (True, False)
