"""`avpea import` and `avpea export`."""

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from avpea.command import (
    Command,
    a_path,
    add_weights,
    print_json,
    weights_of,
)
from avpea.tables import show

__all__ = ["COMMANDS"]


def _import_arguments(parser: argparse.ArgumentParser) -> None:
    from avpea import registry

    parser.add_argument("kind", choices=registry.names("official"), help="whose public code wrote the checkpoint")
    parser.add_argument("file", type=a_path, help="the checkpoint, such as avst.pt or model_step_N.pt")
    parser.add_argument("recipe", nargs="?", default="", help="recipe name or YAML file (default: the kind's own)")
    parser.add_argument("--run", type=a_path, required=True, help="run folder to write")


def _import(options: argparse.Namespace) -> None:
    from avpea import official

    report = official.import_checkpoint(options.kind, options.file, options.run, options.recipe, options.overrides)
    print_json(report.to_dict()) if options.json else show(_import_report(report, options.file))


def _import_report(report: Any, file: Path) -> Iterator[str]:
    """What was taken and what was not, and how the inputs differ."""
    frozen = f", {len(report.frozen)} of the frozen network" if report.frozen else ""
    yield f"{report.run}: {report.title}. {len(report.taken)} trained tensors are from {file}{frozen}."
    parts = {"Set so that the model computes the same": report.made, "Second copies with equal values": report.shared}
    parts |= {f"Left out: {reason}": names for reason, names in report.left_out.items()}
    parts |= {"Not in the file, so they start untrained": report.missing, "Unknown here": report.unknown}
    yield from (f"{what} ({len(names)}: {_few(names)})." for what, names in parts.items() if names)
    yield from ("How inputs differ from those of the public code:", *(f"  {one}" for one in report.differences))


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:2]) + (" and so on" if len(names) > 2 else "")


def _export_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", type=a_path, help="run folder or checkpoint file")
    about = "what is to compute it: ONNX Runtime, OpenVINO, or other programs with torch.export"
    parser.add_argument("--to", required=True, choices=("onnx", "openvino", "torch"), help=about)
    parser.add_argument("--out", type=a_path, metavar="DIR", help="folder to write (default: RUN/onnx and so on)")
    parser.add_argument("--overwrite", action="store_true", help="replace an export that is there")
    add_weights(parser, device=False)


def _export(options: argparse.Namespace) -> None:
    from avpea.export import export

    report = export(options.run, options.to, options.out, overwrite=options.overwrite, **weights_of(options))
    print_json(report.to_dict()) if options.json else show(report.lines())


COMMANDS = [
    Command(
        "import", "Turn an official checkpoint of AVST, CMBS, LAVISH or VALOR into a run.",
        "avpea import valor model_step_N.pt paper/avr-valor-l --run runs/valor-l",
        _import_arguments, _import, overrides=True, json=True, media=False,
    ),
    Command(
        "export", "Export a run to ONNX, OpenVINO or torch.export, checked against PyTorch.",
        "avpea export runs/NAME --to onnx\n  avpea predict runs/NAME/onnx video.mp4",
        _export_arguments, _export, json=True, media=False,
    ),
]  # fmt: skip
