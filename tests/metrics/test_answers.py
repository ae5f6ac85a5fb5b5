"""Accuracies of answers, counted by eye."""

from avpea.metrics.answers import accuracy_by, majority, mean_of_three, modality_of


def test_groups_by_eye() -> None:
    assert accuracy_by(["a", "b", "a", "a"], [True, False, False, True]) == {"a": 2 / 3, "b": 0.0}


def test_the_mean_of_three_is_not_the_overall() -> None:
    # 4 audio, 1 visual, 1 audio-visual question: overall 4 / 6, mean (1 + 0 + 0) / 3
    names = ["Audio Counting"] * 4 + ["Visual Location", "Audio-Visual Temporal"]
    right = [True] * 4 + [False] * 2
    by_modality = accuracy_by([modality_of(name) for name in names], right)
    assert mean_of_three(by_modality) == 1 / 3
    assert mean_of_three({"Audio": 1.0, "Visual": 1.0}) is None


def test_published_overall_follows_from_the_published_parts() -> None:
    # AVST on MUSIC-AVQA's first test file: by type and number of questions to 71.5 % overall and 72.53 as the mean.
    counts = {"Audio": 1623, "Visual": 2427, "Audio-Visual": 5135}
    published = {"Audio": 0.7406, "Visual": 0.7400, "Audio-Visual": 0.6954}
    overall = sum(counts[name] * published[name] for name in counts) / sum(counts.values())
    assert round(100 * overall, 2) == 71.52
    mean = mean_of_three(published)
    assert mean is not None
    assert round(100 * mean, 2) == 72.53


def test_majority_of_each_group() -> None:
    assert majority(["a", "a", "b", "a"], ["no", "yes", "two", "yes"]) == {"a": "yes", "b": "two"}
    assert majority(["a", "a"], ["no", "yes"]) == {"a": "no"}
