"""What a task, its head, its data set and its training must agree on is refused when the recipe is read."""

from collections.abc import Callable
from typing import Any

import pytest

from avpea.errors import ExperimentError

Make = Callable[..., Any]


def test_tasks_and_data_must_fit(tiny_captioned: Make, tiny_experiment: Make) -> None:
    message = r"'avel' needs events, but data.name is 'valor32k', which reads captions; expected ave or ave_f"
    with pytest.raises(ExperimentError, match=message):
        tiny_experiment(**{"data.name": "valor32k"})
    message = r"'avr' needs captions, but data.name is 'ave', which reads events; expected captions or shards or v"
    with pytest.raises(ExperimentError, match=message):
        tiny_captioned("avr", **{"data.name": "ave"})


def test_segments_are_drawn_only_where_a_video_is_asked_about_as_a_whole(
    tiny_captioned: Make, tiny_experiment: Make
) -> None:
    with pytest.raises(ExperimentError, match=r"train.segments is 2, but the task 'avel' asks about each segment"):
        tiny_experiment(**{"train.segments": 2})
    with pytest.raises(ExperimentError, match=r"train.segments is 9, but there are only 3"):
        tiny_captioned("avr", **{"train.segments": 9})


def test_a_writer_has_a_position_for_every_second(tiny_captioned: Make) -> None:
    with pytest.raises(ExperimentError, match=r"data\.segments is 33, but the head 'writer' has positions for 32"):
        tiny_captioned("avc", **{"data.segments": 33, "train.segments": 4})
    tiny_captioned("avc", **{"data.segments": 33, "head.groups": ["t"]})


def test_a_head_without_a_text_model_has_none_of_its_options(tiny_experiment: Make) -> None:
    message = r"head.text is an option of the head 'matcher' and the head 'writer', but head.name is 'linear'"
    with pytest.raises(ExperimentError, match=message):
        tiny_experiment(**{"head.text.name": "tiny"})
