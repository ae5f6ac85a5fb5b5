"""The text model of tasks that read or write sentences."""

from avpea.text._bert import KeptWords
from avpea.text._load import TextOptions, require_text
from avpea.text._model import Sentences, TextModel, WordHead, build_text

__all__ = ["KeptWords", "Sentences", "TextModel", "TextOptions", "WordHead", "build_text", "require_text"]
