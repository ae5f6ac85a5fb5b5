"""The CMBS head: cross-modal background suppression for event localization, on the tokens of an adapted ViT."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from avpea.heads._cmbs_parts import CrossDecoder, Interaction, SpatialAttention, TimeEncoder

__all__ = ["CMBS"]

TIME_SUPPRESSION = 0.1  # alpha
EVENT_SUPPRESSION = 0.3  # gamma
TOP_SEGMENTS = 4
VISUAL, AUDIO, WIDTH = 512, 256, 256


@dataclass(frozen=True)
class _Output:
    """What the head answers.

    Attributes:
        relevance: Logit of "an event is here", for each second.
        category: Logits of the video's one category.
        gate: Product of both streams' background gates, for each second.
        av_score: Event-level logits, from each class's best seconds.
    """

    relevance: Float[Tensor, "batch segments"]
    category: Float[Tensor, "batch classes"]
    gate: Float[Tensor, "batch segments"]
    av_score: Float[Tensor, "batch classes"]


class CMBS(nn.Module):
    """Cross-modal background suppression (Xia & Zhao, CVPR 2022; public code marmot-xy/CMBS).

    With 28 classes it has 9,757,785 parameters (D = 768) or 9,954,393 (D = 1024). The public code registers
    4,344,064 more that its forward pass never reads (`registered_but_unused`); the AV-PEA paper counts them.

    Args:
        dim: Width of the tokens.
        num_classes: Event categories, background not counted.
    """

    def __init__(self, dim: int, num_classes: int) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.v_fc = nn.Linear(dim, VISUAL)
        self.a_fc = nn.Linear(dim, AUDIO)
        self.dropout = nn.Dropout(0.2)
        self.spatial = SpatialAttention(VISUAL, AUDIO)
        self.audio_lstm = nn.LSTM(AUDIO, WIDTH // 2, batch_first=True, bidirectional=True)
        self.video_lstm = nn.LSTM(VISUAL, VISUAL // 2, batch_first=True, bidirectional=True)
        self.audio_encoder, self.video_encoder = TimeEncoder(WIDTH), TimeEncoder(VISUAL)
        self.audio_decoder, self.video_decoder = CrossDecoder(WIDTH), CrossDecoder(VISUAL)
        self.audio_gate, self.video_gate = nn.Linear(WIDTH, 1), nn.Linear(WIDTH, 1)
        self.audio_classes, self.video_classes = nn.Linear(WIDTH, num_classes), nn.Linear(WIDTH, num_classes)
        self.join_video, self.join_audio = Interaction(WIDTH), Interaction(WIDTH)
        self.relevance = nn.Linear(WIDTH, 1)
        self.category = nn.Linear(WIDTH, num_classes)

    def forward(
        self,
        visual: Float[Tensor, "batch segments patches dim"],
        visual_cls: Float[Tensor, "batch segments dim"],
        audio_cls: Float[Tensor, "batch segments dim"],
    ) -> _Output:
        """Patch tokens of the frames and CLS tokens of the sound, second by second."""
        batch, segments = visual.shape[:2]
        seen = self.dropout(self.v_fc(visual).relu())
        heard = self.a_fc(audio_cls)
        located = self.spatial(seen.flatten(0, 1), heard.flatten(0, 1)).view(batch, segments, -1)
        audio, _ = self.audio_lstm(heard)
        video, _ = self.video_lstm(located)
        audio_key, video_key = self.audio_encoder(audio), self.video_encoder(video)
        audio, video = self.audio_decoder(audio, video_key), self.video_decoder(video, audio_key)

        # Seconds that one stream finds empty are damped in the other.
        audio_gate, video_gate = self.audio_gate(audio_key).sigmoid(), self.video_gate(video_key).sigmoid()
        video = video + TIME_SUPPRESSION * audio_gate * video
        audio = audio + TIME_SUPPRESSION * video_gate * audio

        # Classes that few seconds support are damped in the video's category.
        av_score = (best_segments(self.audio_classes(audio)) + best_segments(self.video_classes(video))) / 2
        video = self.join_video(video, audio)
        audio = self.join_audio(audio, video)
        both = (video + audio) / 2
        category = self.category(both.amax(dim=1)) + EVENT_SUPPRESSION * av_score
        return _Output(
            self.relevance(both).squeeze(-1), category, (audio_gate * video_gate).squeeze(-1), av_score
        )

    def loss(self, output: _Output, labels: Int[Tensor, "batch segments"]) -> dict[str, Tensor]:
        """Two binary losses over seconds and two category losses over videos; the total is their sum.

        The gate is a product of sigmoids and goes through a sigmoid once more, as in the public code. A video
        without any event has no category: it counts in the binary losses only.
        """
        here = (labels < self.num_classes).to(output.relevance.dtype)
        event = event_of(labels, self.num_classes)
        return {
            "relevance": F.binary_cross_entropy_with_logits(output.relevance, here),
            "gate": F.binary_cross_entropy_with_logits(output.gate, here),
            "category": category_loss(output.category, event),
            "av_score": category_loss(output.av_score, event),
        }

    def probabilities(self, output: _Output) -> Float[Tensor, "batch segments categories"]:
        """Of each category in each second; the last one is background."""
        here = output.relevance.sigmoid()[..., None]
        return torch.cat((here * output.category.softmax(-1)[:, None], 1 - here), dim=-1)

    def decide(self, output: _Output) -> Int[Tensor, "batch segments"]:
        """The published rule: relevant seconds get the video's one category, the others background."""
        category = output.category.argmax(dim=-1, keepdim=True).expand_as(output.relevance)
        return torch.where(output.relevance.sigmoid() > 0.5, category, self.num_classes)


def registered_but_unused() -> dict[str, int]:
    """Parameters that the public code registers and never uses, by what they are; 4,344,064 in all.

    Its encoder and decoder classes keep the prototype layer that they clone, and its decoder layers hold a
    self-attention that `forward` passes by.
    """
    attention = 4 * WIDTH * WIDTH + 4 * WIDTH
    feed = 2 * WIDTH * 1024 + 1024 + WIDTH
    norm = 2 * WIDTH
    return {
        "prototype encoder layers (audio, video)": 2 * (attention + feed + 2 * norm),
        "prototype decoder layers (audio, video)": 2 * (2 * attention + feed + 2 * norm),
        "self-attention of the decoder layers (audio, video)": 2 * attention,
        "a bottleneck linear layer": VISUAL * WIDTH + WIDTH,
        "two LayerNorms": 2 * norm,
    }


def best_segments(logits: Float[Tensor, "batch segments classes"]) -> Float[Tensor, "batch classes"]:
    """For each class the mean over its four highest seconds (all, where there are fewer)."""
    return logits.topk(min(TOP_SEGMENTS, logits.shape[1]), dim=1).values.mean(dim=1)


def event_of(labels: Int[Tensor, "batch segments"], num_classes: int) -> Int[Tensor, " batch"]:
    """The category that covers most seconds of each video; -100 (ignored) where there is none."""
    counts = F.one_hot(labels, num_classes + 1)[..., :-1].sum(dim=1)
    return torch.where(counts.sum(dim=1) > 0, counts.argmax(dim=1), -100)


def category_loss(logits: Float[Tensor, "batch classes"], event: Int[Tensor, " batch"]) -> Float[Tensor, ""]:
    """Cross-entropy over the videos that have an event; 0, still connected, where none has."""
    known = (event >= 0).sum().clamp(min=1)
    return F.cross_entropy(logits, event, ignore_index=-100, reduction="sum") / known
