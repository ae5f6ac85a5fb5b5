"""Faults made on purpose, with figures: what holds is counted, and written to results/faults.json.

    python -m tests.faults [PART ...] [--long] [--out FILE]

Each part is a module here with a function `run(long: bool) -> dict[str, Any]` that returns its figures; its docstring
says what they mean. `run` must leave nothing behind, and fail only if the harness itself is broken: a promise that does
not hold is a figure, and the tests of the part say which figures are promised.
"""
