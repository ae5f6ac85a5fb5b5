"""Exporting a run: encoder with adapters and head as one graph for ONNX Runtime, OpenVINO or programs in torch."""

from avpea.export._export import ExportReport, export

__all__ = ["ExportReport", "export"]
