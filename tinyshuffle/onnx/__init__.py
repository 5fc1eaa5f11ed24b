"""Nets for other programs: ONNX files, written from the same rows that run here."""

from .export import Exported, export

__all__ = ["Exported", "export"]
