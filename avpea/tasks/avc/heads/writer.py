"""VALOR's head for captions and written answers: a BERT that attends to the tokens of picture and sound."""

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from avpea.distributed import mean_of
from avpea.errors import ExperimentError
from avpea.experiment import Experiment
from avpea.options import require
from avpea.tasks._text_head import TextHead, TextHeadOptions
from avpea.tasks.avc.heads._beams import Written, beam_search
from avpea.text import Sentences, TextModel

__all__ = ["EXTENSION", "Writer", "WriterOptions", "hide"]

FRAMES = 32
FIRST_WORD = 106  # random replacement words start here; lower indices are reserved by BERT


@dataclass(frozen=True)
class WriterOptions(TextHeadOptions):
    """Options of the writer.

    Attributes:
        masked: Probability that a word is masked in training (VALOR: 0.6 for captions, 0.99 for answers).
        beams: Number of beams when a text is written; 1 is greedy search (VALOR: 3 for captions, 1 for answers).
        longest: Maximum number of word pieces in a written text (VALOR: 30).
        average: What the loss is a mean over: all masked `words` of the batch; or `texts`, each with the mean over its
            own words, as VALOR's public code does for answers.
    """

    masked: float = 0.6
    beams: int = 3
    longest: int = 30
    average: Literal["words", "texts"] = "words"

    def __post_init__(self) -> None:
        super().__post_init__()
        require(0 < self.masked <= 1, f"head.masked is {self.masked}; expected a share above 0, up to 1.")
        require(1 <= self.beams <= 100, f"head.beams is {self.beams}; expected 1 to 100.")
        require(1 <= self.longest <= 500, f"head.longest is {self.longest}; expected 1 to 500.")


class Writer(TextHead):
    """Predict masked words from earlier words, the prompt, and the video (VALOR's public code, "unimlm").

    Layers of the public code, and their names here:

        multimodal_encoder                      text.bert, with embeddings.prompt_embedding as text.prompt_embedding
        cls                                     text.words, its decoder being the table of the words
        {video,audio}_type_embeddings           modality.{visual,audio}
        {video,audio}_frame_embedding           place.{visual,audio}
        hidden_trans_{video,audio}_multimodal   enter.{visual,audio}, where the widths differ

    Args:
        visual_dim: Width of the visual tokens.
        audio_dim: Width of the audio tokens.
        text: A text model that writes.
        options: Options of the head.
    """

    Options = WriterOptions
    writes = True

    def __init__(self, visual_dim: int, audio_dim: int, text: TextModel, options: WriterOptions) -> None:
        super().__init__(visual_dim, audio_dim, text, options)
        self.options = options
        dims = {"visual": visual_dim, "audio": audio_dim}
        self.modality = nn.ParameterDict({name: 0.02 * torch.randn(1, 1, text.dim) for name in dims})
        self.place = nn.ParameterDict({name: 0.02 * torch.randn(1, FRAMES, text.dim) for name in dims})
        self.enter = nn.ModuleDict(
            {
                name: nn.Sequential(nn.Linear(dim, text.dim), nn.LayerNorm(text.dim, eps=1e-12))
                for name, dim in dims.items()
                if dim != text.dim
            }
        )

    @classmethod
    def check(cls, experiment: Experiment) -> None:
        """Check that every second has a position; in training only some may be drawn, but these from all.

        Raises:
            ExperimentError: There are more seconds than positions.
        """
        reads_video = any(group != "t" for group in experiment.head.groups)  # type: ignore[attr-defined]
        if reads_video and experiment.data.segments > FRAMES:
            raise ExperimentError(
                f"data.segments is {experiment.data.segments}, but the head 'writer' has positions for {FRAMES} "
                f"seconds; expected {FRAMES} or fewer."
            )

    def forward(
        self,
        visual: Float[Tensor, "videos frames visual_tokens visual_dim"] | None,
        audio: Float[Tensor, "videos clips audio_tokens audio_dim"] | None,
        positions: Int[Tensor, "videos frames"] | None = None,
        sound_positions: Int[Tensor, "videos clips"] | None = None,
    ) -> dict[str, Float[Tensor, "videos tokens dim"] | None]:
        """Memory of each group: all tokens of all frames, then of all sounds; None for a group without either."""
        if visual is None or audio is None:
            return dict.fromkeys(self.groups)
        both = {"v": self.memory("visual", visual, positions), "a": self.memory("audio", audio, sound_positions)}
        parts = {group: [both[letter] for letter in group[1:]] for group in self.groups}
        return {group: torch.cat(some, dim=1) if some else None for group, some in parts.items()}

    def memory(
        self,
        name: str,
        tokens: Float[Tensor, "videos images tokens dim"],
        positions: Int[Tensor, "videos frames"] | None = None,
    ) -> Float[Tensor, "videos all_tokens text_dim"]:
        """Tokens of one modality, plus embeddings of their image's position and of their modality.

        Positions are counted in the whole video, so that training on some of its frames and testing on all of them
        agree (VALOR's public code counts drawn frames only).

        Raises:
            ExperimentError: There are more images than positions.
        """
        images = tokens.shape[1]
        if images > FRAMES:
            raise ExperimentError(
                f"The head 'writer' has {FRAMES} positions for images, but data.segments is {images}."
            )
        x = self.enter[name](tokens) if name in self.enter else tokens
        table = self.place[name][0]
        place = table[positions] if positions is not None and positions.shape[1] == images else table[None, :images]
        x = x + place[:, :, None]
        memory: Tensor = x.flatten(1, 2) + self.modality[name]
        return memory

    def asked(self, questions: Sentences | None, number: int, device: torch.device) -> Sentences | None:
        """Prompt of each text: its question, which includes the recipe's prompt, or that prompt alone."""
        return self.prompts(number, device) if questions is None else questions

    def loss(
        self,
        memories: dict[str, Tensor | None],
        text: Sentences,
        video: Int[Tensor, " texts"],
        questions: Sentences | None = None,
    ) -> dict[str, Float[Tensor, ""]]:
        """Cross-entropy of the masked words for each group, divided by the number of groups.

        Args:
            memories: Output of `forward`.
            text: Annotated captions or answers.
            video: Index of each text's video.
            questions: Question of each text; None for captions.
        """
        hidden, chosen = hide(text, self.options.masked, self.text.mask_id, self.text.bert.shape.vocab_size)
        prompt = self.asked(questions, len(text), text.token_ids.device)
        terms = {}
        for group, memory in memories.items():
            states = self.text.write(hidden, prompt, None if memory is None else memory[video])
            logits, words = self.text.logits(states[chosen]), text.token_ids[chosen]
            if self.options.average == "words":
                mean = mean_of(F.cross_entropy(logits, words, reduction="sum"), chosen.sum())
            else:  # each text has at least one masked word
                share = 1 / chosen.sum(dim=1, keepdim=True).expand_as(chosen)[chosen]
                added = (F.cross_entropy(logits, words, reduction="none") * share).sum()
                mean = mean_of(added, torch.tensor(len(text), device=added.device))
            terms[f"words_{group}"] = mean / len(memories)
        return terms

    def write(
        self,
        memories: dict[str, Tensor | None],
        video: Int[Tensor, " texts"],
        questions: Sentences | None = None,
        beams: int = 0,
    ) -> list[list[Written]]:
        """Write a text for each entry of `video`, from the first group's memory; candidates are likeliest first.

        Args:
            memories: Output of `forward`.
            video: Index of each text's video.
            questions: Question of each text; None for captions.
            beams: Number of beams; 0 means the recipe's.
        """
        memory = memories[self.groups[0]]
        return beam_search(
            self.text,
            len(video),
            None if memory is None else memory[video],
            self.asked(questions, len(video), video.device),
            beams=beams or self.options.beams,
            longest=self.options.longest,
        )


def hide(
    text: Sentences, share: float, mask_id: int, vocabulary: int
) -> tuple[Sentences, Bool[Tensor, "texts tokens"]]:
    """Mask words: of the chosen words 80 % become MASK, 10 % a random word, and 10 % stay.

    CLS is never chosen, SEP may be (so that stopping is learned), and at least one word of each text is. Random numbers
    come from torch's global generator on the CPU, whatever the device.

    Args:
        text: Texts to mask.
        share: Probability that a word is chosen.
        mask_id: Index of MASK.
        vocabulary: Number of words in the vocabulary.

    Returns:
        The masked texts, and which words were chosen.
    """
    eligible = text.mask.cpu().clone()
    eligible[:, 0] = False
    chosen = eligible & (torch.rand(eligible.shape) < share)
    none = ~chosen.any(dim=1)
    if none.any():  # draw one uniformly; the public code draws again until one is chosen
        any_one = torch.multinomial(eligible[none].float(), 1)
        chosen[none] = chosen[none].scatter(1, any_one, True)
    kind = torch.rand(eligible.shape)
    others = torch.randint(FIRST_WORD, vocabulary, eligible.shape)
    token_ids = text.token_ids.cpu()
    token_ids = token_ids.masked_fill(chosen & (kind < 0.8), mask_id)
    token_ids = torch.where(chosen & (kind >= 0.8) & (kind < 0.9), others, token_ids)
    device = text.token_ids.device
    return Sentences(token_ids.to(device), text.mask), chosen.to(device)


EXTENSION = Writer
