"""Run folders: what is in them, what they are compared with, and how Ctrl-C leaves them."""

from avpea.run._folder import RunFolder
from avpea.run._settings import differences, option_of, other_start, other_weights
from avpea.run._stop import StopRequest

__all__ = ["RunFolder", "StopRequest", "differences", "option_of", "other_start", "other_weights"]
