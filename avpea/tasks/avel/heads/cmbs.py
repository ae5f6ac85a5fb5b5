"""The CMBS head: cross-modal background suppression for event localization, on tokens of an adapted ViT."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from avpea.distributed import mean_of
from avpea.metrics.accuracy import NO_EVENT, video_category
from avpea.tasks.avel.heads._base import EventHead
from avpea.tasks.avel.heads._cmbs_parts import FEED_FORWARD, CrossDecoder, Interaction, SpatialAttention, TimeEncoder

__all__ = ["CMBS"]

TIME_SUPPRESSION = 0.1  # alpha
EVENT_SUPPRESSION = 0.3  # gamma
TOP_SEGMENTS = 4
VISUAL, AUDIO, WIDTH = 512, 256, 256


@dataclass(frozen=True)
class CMBSOutput:
    """Output of the head for a batch of windows.

    Attributes:
        relevance: Logit of each segment for "an event is seen and heard".
        category: Logits of the window's category; a window has only one.
        gate: Product of both streams' background gates in each segment, in (0, 1).
        av_score: Event-level logits: mean over the best segments of each class and over both streams.
    """

    relevance: Float[Tensor, "batch segments"]
    category: Float[Tensor, "batch classes"]
    gate: Float[Tensor, "batch segments"]
    av_score: Float[Tensor, "batch classes"]


class CMBS(EventHead):
    """Cross-modal background suppression (Xia & Zhao, CVPR 2022; public code marmot-xy/CMBS).

    The frame's patch tokens replace VGG-19's map, and the sound's CLS token replaces VGGish's vector (AV-PEA
    paper, Section 4.2). With 28 classes it has 9,757,785 parameters (D = 768) or 9,954,393 (D = 1024). The
    public code registers 4,344,064 more that its forward pass never reads (`registered_but_unused`), and the
    paper's totals count them: 14,101,849 and 14,298,457.

    On a visual map of width 2,048 and VGGish's vectors of 128 it registers 14,593,369, where the public code has
    14,330,969: that one feeds the 128 numbers to its layers directly, while here `a_fc` first projects them to 256,
    which adds 33,024 there, 98,304 in the attention over locations and 131,072 in the audio LSTM.

    Any number of segments and patches works. A window has a single event category, like a row of AVE.

    Args:
        dim: Width of the visual tokens.
        num_classes: Number of event classes, without background.
        audio_dim: Width of the audio tokens; None means `dim`.
    """

    def __init__(self, dim: int, num_classes: int, audio_dim: int | None = None) -> None:
        super().__init__(dim, num_classes, audio_dim)
        self.v_fc = nn.Linear(dim, VISUAL)
        self.a_fc = nn.Linear(audio_dim or dim, AUDIO)
        self.dropout = nn.Dropout(0.2)
        self.spatial = SpatialAttention(VISUAL, AUDIO, hidden=256)
        self.audio_lstm = nn.LSTM(AUDIO, 128, batch_first=True, bidirectional=True)
        self.video_lstm = nn.LSTM(VISUAL, 256, batch_first=True, bidirectional=True)
        self.audio_encoder, self.video_encoder = TimeEncoder(256, WIDTH), TimeEncoder(512, WIDTH)
        self.audio_decoder, self.video_decoder = CrossDecoder(256, WIDTH), CrossDecoder(512, WIDTH)
        self.audio_gate, self.video_gate = nn.Linear(WIDTH, 1), nn.Linear(WIDTH, 1)
        self.audio_classes, self.video_classes = nn.Linear(WIDTH, num_classes), nn.Linear(WIDTH, num_classes)
        self.join_video, self.join_audio = Interaction(WIDTH), Interaction(WIDTH)
        self.relevance = nn.Linear(WIDTH, 1)
        self.category = nn.Linear(WIDTH, num_classes)

    def forward(
        self,
        visual: Float[Tensor, "batch segments patches dim"],
        visual_cls: Float[Tensor, "batch segments dim"],
        audio_cls: Float[Tensor, "batch segments audio_dim"],
    ) -> CMBSOutput:
        """Patch tokens of the frames and CLS tokens of the sound; the frames' CLS tokens are not used."""
        seen = self.dropout(self.v_fc(visual).relu())
        heard = self.a_fc(audio_cls)
        located = self.spatial(seen.flatten(0, 1), heard.flatten(0, 1)).unflatten(0, seen.shape[:2])
        audio, _ = self.audio_lstm(heard)
        video, _ = self.video_lstm(located)
        audio_key, video_key = self.audio_encoder(audio), self.video_encoder(video)
        audio, video = self.audio_decoder(audio, video_key), self.video_decoder(video, audio_key)

        # Time level: a segment that one stream finds relevant counts for more in the other.
        audio_gate, video_gate = self.audio_gate(audio_key).sigmoid(), self.video_gate(video_key).sigmoid()
        video = video + TIME_SUPPRESSION * audio_gate * video
        audio = audio + TIME_SUPPRESSION * video_gate * audio

        # Event level: the best segments of a class raise that class in the window's category.
        av_score = (best_segments(self.audio_classes(audio)) + best_segments(self.video_classes(video))) / 2
        video = self.join_video(video, audio)
        audio = self.join_audio(audio, video)  # with the updated video
        both = (video + audio) / 2
        return CMBSOutput(
            relevance=self.relevance(both).squeeze(-1),
            category=self.category(both.amax(dim=1)) + EVENT_SUPPRESSION * av_score,
            gate=(audio_gate * video_gate).squeeze(-1),
            av_score=av_score,
        )

    def loss(self, output: CMBSOutput, labels: Int[Tensor, "batch segments"]) -> dict[str, Float[Tensor, ""]]:
        """Two binary losses over segments and two category losses over windows, all with weight 1.

        The gate, already a product of sigmoids, goes through a sigmoid once more, for parity with the public
        code. The category of a window is the one that covers most of its segments.

        Unlike the public code, which gives a window without any event the category 0, such a window counts in
        the binary losses only; a batch of such windows only has category losses of 0.
        """
        here = (labels < self.num_classes).to(output.relevance.dtype)
        event = video_category(labels, self.num_classes)
        return {
            "relevance": F.binary_cross_entropy_with_logits(output.relevance, here),
            "gate": F.binary_cross_entropy_with_logits(output.gate, here),
            "category": category_loss(output.category, event),
            "av_score": category_loss(output.av_score, event),
        }

    def probabilities(self, output: CMBSOutput) -> Float[Tensor, "batch segments categories"]:
        """P(relevant) P(category) for each category, then 1 - P(relevant) for background.

        `decide` follows the published rule, not the largest of these: a segment with P(relevant) above 1/2 is
        foreground even if its category is so uncertain that background has the largest probability.
        """
        here = output.relevance.sigmoid()[..., None]
        return torch.cat((here * output.category.softmax(dim=-1)[:, None], 1 - here), dim=-1)

    def decide(self, output: CMBSOutput) -> Int[Tensor, "batch segments"]:
        """The published rule: relevant segments get the window's one category, the others background."""
        category = output.category.argmax(dim=-1, keepdim=True).expand_as(output.relevance)
        return torch.where(output.relevance.sigmoid() > 0.5, category, self.num_classes)

    def registered_but_unused(self) -> dict[str, int]:
        """Parameters that the public code registers and never uses: 4,344,064 in all, whatever the classes.

        Its encoders and decoders keep the prototype layer that they clone their layers from, and its decoder
        layers, prototype or clone, hold a self-attention that their forward pass skips. Layers have width 256,
        a feed-forward layer of 1024 and two LayerNorms.
        """
        attention = 4 * (WIDTH * WIDTH + WIDTH)
        norm = 2 * WIDTH
        layer = attention + (WIDTH * FEED_FORWARD + FEED_FORWARD) + (FEED_FORWARD * WIDTH + WIDTH) + 2 * norm
        return {
            "prototype encoder layers, audio and video": 2 * layer,
            "prototype decoder layers, audio and video": 2 * (layer + attention),
            "self-attention in the decoder layers, audio and video": 2 * attention,
            "bottleneck Linear(512 -> 256)": 512 * 256 + 256,
            "two LayerNorms": 2 * norm,
        }


def best_segments(logits: Float[Tensor, "batch segments classes"]) -> Float[Tensor, "batch classes"]:
    """Mean of each class over its four highest segments (over all, if there are fewer)."""
    return logits.topk(min(TOP_SEGMENTS, logits.shape[1]), dim=1).values.mean(dim=1)


def category_loss(logits: Float[Tensor, "batch classes"], event: Int[Tensor, " batch"]) -> Float[Tensor, ""]:
    """Cross-entropy over the windows with an event; 0, with a gradient of 0, if there are none."""
    total = F.cross_entropy(logits, event, ignore_index=NO_EVENT, reduction="sum")
    return mean_of(total, (event != NO_EVENT).sum())
