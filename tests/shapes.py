"""Types and shapes are checked while the tests run, in each module of avpea that says shapes: imported before them.

jaxtyping's own option for pytest takes whole packages, and checking every call of what handles no tensors is a third of
the time of the tests; mypy knows the types there. beartype checks methods one by one, where `Self` has no meaning.
"""

import sys
from pathlib import Path

from jaxtyping import install_import_hook

CHECKER = (
    "beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True,"
    "hint_overrides=beartype.FrozenDict({beartype.typing.Self:beartype.typing.Any})))"
)
_PACKAGE = Path(__file__).parents[1] / "avpea"


def with_shapes() -> list[str]:
    """Names of the modules that say shapes."""
    found = (path for path in _PACKAGE.rglob("*.py") if "jaxtyping" in path.read_text(encoding="utf-8"))
    parts = (path.relative_to(_PACKAGE.parent).with_suffix("").parts for path in found)
    return sorted(".".join(one[:-1] if one[-1] == "__init__" else one) for one in parts)


assert not sys.modules.keys() & set(with_shapes()), "avpea is imported already, and its types are not checked"
install_import_hook(with_shapes(), CHECKER)
