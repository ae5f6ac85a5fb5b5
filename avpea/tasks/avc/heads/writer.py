"""VALOR's head for captions and free answers: a BERT that writes, looking at the tokens of picture and sound."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from avpea.errors import ExperimentError
from avpea.options import require
from avpea.tasks._text_head import TextHead, TextHeadOptions
from avpea.tasks.avc.heads._beams import Written, beam_search
from avpea.text import Sentences, TextModel

__all__ = ["EXTENSION", "Writer", "WriterOptions", "hide"]

FRAMES = 32
# Below them are the pieces that BERT keeps for its own use.
FIRST_WORD = 106


@dataclass(frozen=True)
class WriterOptions(TextHeadOptions):
    """Options of the writer.

    Attributes:
        masked: Share of the words that training hides and asks for (VALOR: 0.6 of captions, 0.99 of answers).
        beams: Beams of the search when a text is written; 1 is greedy (VALOR: 3 for captions, 1 for answers).
        longest: Word pieces that a written text has at most (VALOR: 30).
    """

    masked: float = 0.6
    beams: int = 3
    longest: int = 30

    def __post_init__(self) -> None:
        super().__post_init__()
        require(0 < self.masked <= 1, f"head.masked is {self.masked}; expected a share above 0, up to 1.")
        require(1 <= self.beams <= 100, f"head.beams is {self.beams}; expected 1 to 100.")
        require(1 <= self.longest <= 500, f"head.longest is {self.longest}; expected 1 to 500.")


class Writer(TextHead):
    """Masked words predicted from those before them, the prompt, and the video (VALOR's public code, "unimlm").

    Layers of the public code, and those of ours that they are:

        multimodal_encoder                      text.bert, with embeddings.prompt_embedding as text.prompt_embedding
        cls                                     text.words, its decoder being the table of the words
        {video,audio}_type_embeddings           modality.{visual,audio}
        {video,audio}_frame_embedding           place.{visual,audio}
        hidden_trans_{video,audio}_multimodal   enter.{visual,audio}, where the widths differ

    Args:
        visual_dim: Width of the visual tokens.
        audio_dim: Width of the audio tokens.
        text: A text model that writes.
        options: Its options.
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

    def forward(
        self,
        visual: Float[Tensor, "videos frames visual_tokens visual_dim"] | None,
        audio: Float[Tensor, "videos clips audio_tokens audio_dim"] | None,
        positions: Int[Tensor, "videos frames"] | None = None,
    ) -> dict[str, Float[Tensor, "videos tokens dim"] | None]:
        """What there is to look at, for each group: all tokens of all frames, and of all sounds after them."""
        if visual is None or audio is None:
            return dict.fromkeys(self.groups)
        both = {"v": self.memory("visual", visual, positions), "a": self.memory("audio", audio, positions)}
        parts = {group: [both[letter] for letter in group[1:]] for group in self.groups}
        return {group: torch.cat(some, dim=1) if some else None for group, some in parts.items()}

    def memory(
        self,
        name: str,
        tokens: Float[Tensor, "videos images tokens dim"],
        positions: Int[Tensor, "videos frames"] | None = None,
    ) -> Float[Tensor, "videos all_tokens text_dim"]:
        """Tokens of one modality with the embeddings of their image's position and of their modality.

        The position is the one in the whole video, so that training on some of its frames and testing on all agree
        (VALOR's public code counts those it has drawn).

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
        where = table[positions] if positions is not None and positions.shape[1] == images else table[None, :images]
        x = x + where[:, :, None]
        memory: Tensor = x.flatten(1, 2) + self.modality[name]
        return memory

    def asked(self, questions: Sentences | None, number: int, device: torch.device) -> Sentences | None:
        """What each text is written to: its question, which has the recipe's prompt in it, or that prompt alone."""
        return self.prompts(number, device) if questions is None else questions

    def loss(
        self,
        memories: dict[str, Tensor | None],
        text: Sentences,
        video: Int[Tensor, " texts"],
        questions: Sentences | None = None,
    ) -> dict[str, Float[Tensor, ""]]:
        """Cross-entropy of the hidden words, for each group, divided by the number of groups.

        Args:
            memories: Of `forward`.
            text: What people wrote.
            video: Which video each text is about.
            questions: What was asked, where something was.
        """
        hidden, chosen = hide(text, self.options.masked, self.text.mask_id, self.text.bert.config.vocab_size)
        prompt = self.asked(questions, len(text), text.token_ids.device)
        terms = {}
        for group, memory in memories.items():
            states = self.text.write(hidden, prompt, None if memory is None else memory[video])
            cross_entropy = F.cross_entropy(self.text.logits(states[chosen]), text.token_ids[chosen])
            terms[f"words_{group}"] = cross_entropy / len(memories)
        return terms

    def write(
        self,
        memories: dict[str, Tensor | None],
        video: Int[Tensor, " texts"],
        questions: Sentences | None = None,
        beams: int = 0,
    ) -> list[list[Written]]:
        """Texts for some videos, the likeliest first, in the light of the first group.

        Args:
            memories: Of `forward`.
            video: Which video each text is to be about.
            questions: What is asked, where something is.
            beams: How many texts to keep in sight; 0 means the recipe's.
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
    """Hide words: of those chosen, 80 % become MASK, 10 % any word, 10 % stay.

    CLS is never chosen, SEP may be (so that stopping is learned), and of each text at least one is. Chance is torch's
    global one, on the CPU for every device.

    Args:
        text: What people wrote.
        share: How probably each word is chosen.
        mask_id: Index of MASK.
        vocabulary: Number of words.

    Returns:
        The texts with words hidden, and which were chosen.
    """
    eligible = text.mask.cpu().clone()
    eligible[:, 0] = False
    chosen = eligible & (torch.rand(eligible.shape) < share)
    none = ~chosen.any(dim=1)
    if none.any():  # one of those that may be, all alike; the public code draws anew until one is chosen
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
