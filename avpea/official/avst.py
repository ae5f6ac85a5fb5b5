"""AVST's checkpoints (Li et al., CVPR 2022): `avst.pt`, and `main_grounding_gen_best.pt` of its grounding stage."""

from typing import Any

from avpea.errors import CheckpointError
from avpea.experiment import Experiment
from avpea.labels import Labels, QuestionLabels
from avpea.official._base import Official, Rule, Table, to

__all__ = ["EXTENSION", "AVSTCheckpoint", "answering_rules", "require_words"]

NETWORK = "visual_net."
AUDIO_FILTERS = f"{NETWORK}conv1_a.weight"  # of the network's use for sounds, which AVST does not make


class AVSTCheckpoint(Official):
    """AVST on ResNet-18's map of 14x14 and VGGish's vectors, and its grounding stage."""

    code = "GeWu-Lab/MUSIC-AVQA"
    example = "net_grd_avst/avst_models/avst.pt"
    tasks = ("avqa", "avqa_grounding")

    @staticmethod
    def recognises(table: Table) -> bool:
        """By the joint layer of the grounding and the first layer of the sound, without LAVISH's own projections."""
        return {"fc_gl.weight", "fc_a1.weight"} <= table.keys() and not any("yb_fc" in key for key in table)

    @staticmethod
    def recipe(table: Table) -> str:
        """The recipe that reads the published features; the grounding stage has no layer for answers."""
        return "paper/avqa-avst-features" if "fc_ans.weight" in table else "paper/avqa-grounding-features"

    @staticmethod
    def settings(table: Table, experiment: Experiment) -> dict[str, Any]:
        """The stage must be that of the recipe.

        Raises:
            CheckpointError: The recipe is for questions, and the file of the grounding stage.
        """
        if experiment.task.name == "avqa" and "fc_ans.weight" not in table:
            raise CheckpointError(
                "This is a checkpoint of the grounding stage, which answers no questions; leave the recipe out, and "
                "train from the imported run: avpea train paper/avqa-avst --train.start_from RUN."
            )
        return {}

    @staticmethod
    def frozen(table: Table) -> dict[str, str]:
        """ResNet-18, under torchvision's names."""
        keys = [key for key in table if key.startswith(NETWORK) and key != AUDIO_FILTERS]
        return {key: key.removeprefix(NETWORK) for key in keys}

    @staticmethod
    def labels(table: Table, experiment: Experiment) -> Labels:
        """The grounding stage reads no questions; for the other, the words' order is known from the data set only."""
        if experiment.task.name == "avqa_grounding":
            return QuestionLabels.typical()
        raise require_words(table)

    @staticmethod
    def rules(table: Table, experiment: Experiment) -> list[Rule]:
        """All layers that the forward pass uses."""
        return [(r"fc_a1\.(.+)", to(r"head.head.grounding.audio_in.\1")), *answering_rules()]

    @staticmethod
    def elsewhere(name: str, experiment: Experiment) -> str:
        """The grounding stage, as the first part of a whole file, asks nothing and answers nothing."""
        other = experiment.task.name == "avqa_grounding" and not name.startswith("head.head.grounding.")
        return "for other tasks" if other else ""

    left_out = (
        (r"fc_(a1_pure|a2_pure|v|st|aq|vq)\..*|fc\..*|norm3\..*", "registered there, but never used"),
        (r"visual_net\.conv1_a\..*", "registered there, but never used"),
        (r"visual_net\..*", "ResNet-18, in whose place the published features are read"),
    )

    @staticmethod
    def differences(experiment: Experiment) -> list[str]:
        """Of the features, if they are computed here, and of evaluation."""
        if experiment.backbone.name == "features":
            return ["None: the published features of ResNet-18 and VGGish, of every sixth second."]
        return [
            "Features are computed from videos: ResNet-18's undilated map of 14x14, with the file's own weights and "
            "pixels normalised as there (mean 0.43216, 0.394666, 0.37645), of the middle frame of every sixth second, "
            "resized bicubically; there, bilinearly, from JPEG files. For the published ones, leave out the recipe.",
            "VGGish's weights are those of --encoder.audio_weights; there, AudioSet's own, of which these are a port.",
        ]


def require_words(table: Table) -> CheckpointError:
    """The error for a checkpoint whose words have no names."""
    words, answers = len(table["question_encoder.word2vec.weight"]), len(table["fc_ans.weight"])
    return CheckpointError(
        f"The checkpoint knows {words} words and {answers} answers by number only, in the order of their first "
        "appearance in avqa-train.json; give the folder of MUSIC-AVQA's annotations with "
        "--data.root FOLDER (no video is needed)."
    )


def _head(name: str) -> Any:
    return to(f"head.head.{name}")


def answering_rules() -> list[Rule]:
    """Rules for the layers that AVST and LAVISH's network for questions share."""
    return [
        (r"fc_a2\.(.+)", _head(r"grounding.audio_out.\1")),
        (r"fc_gl\.(.+)", _head(r"grounding.join.\1")),
        *((rf"fc{i}\.(.+)", _head(rf"grounding.match.{2 * (i - 1)}.\1")) for i in (1, 2, 3, 4)),
        (r"question_encoder\.word2vec\.(.+)", _head(r"question.words.\1")),
        (r"question_encoder\.lstm\.(.+)", _head(r"question.lstm.\1")),
        (r"question_encoder\.fc\.(.+)", _head(r"question.join.\1")),
        *(
            rule
            for letter, number, name in (("v", 1, "seen"), ("a", 2, "heard"))
            for rule in (
                (rf"attn_{letter}\.(.+)", _head(rf"{name}.attention.\1")),
                (rf"linear{number}1\.(.+)", _head(rf"{name}.first.\1")),
                (rf"linear{number}2\.(.+)", _head(rf"{name}.second.\1")),
                (rf"norm{number}\.(.+)", _head(rf"{name}.norm.\1")),
            )
        ),
        (r"fc_fusion\.(.+)", _head(r"fusion.\1")),
        (r"fc_ans\.(.+)", _head(r"answer.\1")),
    ]


EXTENSION = AVSTCheckpoint
