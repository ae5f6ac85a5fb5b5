"""Extensions: a file name is a name."""

from importlib.metadata import EntryPoint, EntryPoints

import pytest

from avpea import registry
from avpea.adapters import Trained
from avpea.backbones import Frozen
from avpea.cli import main
from avpea.data.readers import Reader
from avpea.encoders import Encoder
from avpea.errors import ExperimentError
from avpea.experiment import load_recipe
from avpea.official import Official
from avpea.tasks import Head, Task

BASES = {
    "adapter": Trained,
    "encoder": Encoder,
    "backbone": Frozen,
    "reader": Reader,
    "task": Task,
    "head": Head,
    "official": Official,
}


@pytest.mark.parametrize("kind", BASES)
def test_every_file_is_an_extension_of_its_kind(kind: str) -> None:
    names = registry.names(kind)
    assert names
    assert not [name for name in names if name.startswith("_")]
    for name in names:
        found = registry.load(kind, name)
        assert issubclass(found, BASES[kind])
        assert found is not BASES[kind]


def test_commands_of_tasks_are_found_without_importing_torch() -> None:
    names = [command.name for module in registry.command_modules() for command in module.COMMANDS]
    assert {"predict", "ask", "caption"} <= set(names)
    assert len(set(names)) == len(names)


@pytest.mark.parametrize(
    ("kind", "name", "message"),
    [
        ("adapter", "av_pae", r"No adapter is called 'av_pae'\. Did you mean 'av_pea'\? Known: .*av_pea"),
        ("head", "cmb", r"No head is called 'cmb'\. Did you mean 'cmbs'\? Known: .*cmbs, .*linear"),
        ("reader", "avee", r"No reader is called 'avee'\. Did you mean 'ave'\?"),
        ("task", "zzz", r"No task is called 'zzz'\. Known: .*avel"),
        ("adapter", "_base", "No adapter is called '_base'"),
    ],
)
def test_unknown_names(kind: str, name: str, message: str) -> None:
    with pytest.raises(ExperimentError, match=message):
        registry.load(kind, name)


def test_entry_points_of_others_are_extensions(monkeypatch: pytest.MonkeyPatch) -> None:
    point = EntryPoint("theirs", "avpea.adapters.av_pea:AVPEA", "avpea.adapters")
    monkeypatch.setattr(registry, "entry_points", lambda: EntryPoints([point]))
    assert "theirs" in registry.names("adapter")
    assert registry.load("adapter", "theirs") is registry.load("adapter", "av_pea")
    assert "theirs" not in registry.names("head")


def test_hints() -> None:
    assert registry.did_you_mean("epoch", ["epochs", "seed"]) == " Did you mean 'epochs'? Known: epochs, seed."
    assert registry.did_you_mean("zzz", ["b", "a"]) == " Known: a, b."
    assert registry.did_you_mean("zzz", []) == ""


def put(monkeypatch: pytest.MonkeyPatch, *points: EntryPoint) -> None:
    monkeypatch.setattr(registry, "entry_points", lambda: EntryPoints(points))


def test_no_package_takes_the_name_of_another_extension(monkeypatch: pytest.MonkeyPatch) -> None:
    lora = EntryPoint("av_pea", "avpea.adapters.lora:LoRA", "avpea.adapters")
    put(monkeypatch, lora)
    with pytest.raises(ExperimentError, match=r"Several adapters are called 'av_pea'.*uninstall all but one"):
        registry.load("adapter", "av_pea")
    other = EntryPoint("mine", "avpea.adapters.bitfit:BitFit", "avpea.adapters")
    put(monkeypatch, EntryPoint("mine", lora.value, lora.group), other)
    with pytest.raises(ExperimentError, match="Several adapters are called 'mine'"):
        registry.load("adapter", "mine")


def test_a_broken_package_harms_nothing_but_itself(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    put(
        monkeypatch,
        EntryPoint("gone", "avpea.adapters.lora:NotThere", "avpea.adapters"),
        EntryPoint("lost", "not_installed_at_all", "avpea.tasks"),
    )
    with pytest.raises(ExperimentError, match=r"The adapter 'gone' \(.*NotThere\) cannot be imported: AttributeError"):
        load_recipe("mini/avel").override({"adapter.name": "gone"})
    with pytest.raises(ExperimentError, match=r"adapter\.rank is an option of the adapter 'lora'"):
        load_recipe("mini/avel").override({"adapter.rank": 4})
    assert main(["recipes", "mini/avel"]) == 0
    assert "the commands of not_installed_at_all are missing" in capsys.readouterr().err


def test_a_command_of_two_packages_is_there_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    module = next(each for each in registry.command_modules() if each.COMMANDS[0].name == "predict")
    monkeypatch.setattr(registry, "command_modules", lambda: [module, module])
    assert main(["recipes", "mini/avel"]) == 0
    assert "two packages have the command 'predict'; one is left out" in capsys.readouterr().err
