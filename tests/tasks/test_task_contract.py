"""What holds for every task and every head of it, asked of each folder in `avpea/tasks/` without naming any."""

from pathlib import Path
from typing import Any

import pytest

from avpea import registry
from avpea.errors import ExperimentError
from avpea.experiment import Experiment
from avpea.options import Options
from avpea.sections import HeadOptions, TaskOptions
from avpea.tasks import Head, Task
from tests.contract import assert_refuses_other_data, assert_task, values_for

TASKS = {name: registry.load("task", name) for name in registry.names("task")}
HEADS = {name: registry.load("head", name) for name in registry.names("head")}
PAIRS = [
    # The task's own head at once, the others slowly; each has tests of its own.
    pytest.param(task, head, marks=[] if head == TASKS[task].default_head else [pytest.mark.slow])
    for task in TASKS
    for head in HEADS
    if issubclass(HEADS[head], TASKS[task].heads)
]


@pytest.mark.parametrize(("task", "head"), PAIRS)
def test_from_recipe_to_answer(
    task: str,
    head: str,
    tiny_values: dict[str, Any],
    tiny_roots: dict[str, Path],
    tiny_data: Path,
    tmp_path: Path,
    capsys: Any,
) -> None:
    values = values_for(task, head, tiny_values, tiny_roots)
    assert_task(values, min((tiny_data / "AVE").iterdir()), tmp_path, capsys)
    assert_refuses_other_data(values)


@pytest.mark.parametrize("name", TASKS)
def test_a_task_says_what_it_is(name: str) -> None:
    task = TASKS[name]
    assert issubclass(task, Task)
    assert issubclass(task.heads, Head)
    assert issubclass(task.Options, TaskOptions)
    assert issubclass(HEADS[task.default_head], task.heads)
    assert "{run}" in task.use
    assert task.tag
    assert task.example
    labels = task.needs.typical()
    assert task.needs.from_dict(labels.to_dict()) == labels


@pytest.mark.parametrize("name", HEADS)
def test_a_head_belongs_to_a_task_and_is_refused_by_the_others(name: str, tiny_values: dict[str, Any]) -> None:
    head = HEADS[name]
    assert issubclass(head.Options, HeadOptions)
    assert issubclass(head.Options, Options)
    takers = [task for task in TASKS if issubclass(head, TASKS[task].heads)]
    assert takers
    for task in TASKS.keys() - set(takers):
        with pytest.raises(ExperimentError, match=f"head.name is '{name}', which is no head of the task '{task}'"):
            Experiment.from_dict({**tiny_values, "task": task, "head": {"name": name}})
