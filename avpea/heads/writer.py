"""VALOR's head for captions and free answers: a BERT that writes, looking at the tokens of picture and sound."""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from avpea.configs import HeadConfig, TextConfig
from avpea.errors import ExperimentError
from avpea.heads._caption import CaptionHead
from avpea.heads._search import Written, beam_search
from avpea.text import Sentences, TextModel

__all__ = ["Writer", "hide"]

FRAMES = 32
# Below them are the pieces that BERT keeps for its own use.
FIRST_WORD = 106


class Writer(CaptionHead):
    """Masked words told in the light of those before them, the prompt, and the video (VALOR's public code, "unimlm").

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
        config: `groups`.
        texts: `prompt`, `masked`, `beams` and `longest`.
    """

    writes = True

    def __init__(self, visual_dim: int, audio_dim: int, text: TextModel, config: HeadConfig, texts: TextConfig) -> None:
        super().__init__(visual_dim, audio_dim, text, config, texts)
        self.texts = texts
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
        places: Int[Tensor, "videos frames"] | None = None,
    ) -> dict[str, Float[Tensor, "videos tokens dim"] | None]:
        """What there is to look at, for each group: all tokens of all frames, and of all sounds after them."""
        if visual is None or audio is None:
            return dict.fromkeys(self.groups)
        both = {"v": self.memory("visual", visual, places), "a": self.memory("audio", audio, places)}
        parts = {group: [both[letter] for letter in group[1:]] for group in self.groups}
        return {group: torch.cat(some, dim=1) if some else None for group, some in parts.items()}

    def memory(
        self,
        name: str,
        tokens: Float[Tensor, "videos images tokens dim"],
        places: Int[Tensor, "videos frames"] | None = None,
    ) -> Float[Tensor, "videos all_tokens text_dim"]:
        """Tokens of one modality with the embeddings of their image's place and of their modality.

        The place is the one in the whole video, so that training on some of its frames and testing on all agree
        (VALOR's public code counts those it has drawn).

        Raises:
            ExperimentError: There are more images than places.
        """
        images = tokens.shape[1]
        if images > FRAMES:
            raise ExperimentError(f"The head 'writer' has {FRAMES} places for images, but data.segments is {images}.")
        x = self.enter[name](tokens) if name in self.enter else tokens
        table = self.place[name][0]
        where = table[places] if places is not None and places.shape[1] == images else table[None, :images]
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
        hidden, chosen = hide(text, self.texts.masked, self.text.mask, self.text.bert.config.vocab_size)
        prompt = self.asked(questions, len(text), text.words.device)
        terms = {}
        for group, memory in memories.items():
            states = self.text.write(hidden, prompt, None if memory is None else memory[video])
            told = F.cross_entropy(self.text.logits(states[chosen]), text.words[chosen])
            terms[f"words_{group}"] = told / len(memories)
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
            beams=beams or self.texts.beams,
            longest=self.texts.longest,
        )


def hide(text: Sentences, share: float, mask: int, vocabulary: int) -> tuple[Sentences, Bool[Tensor, "texts words"]]:
    """Hide words: of those chosen, 80 % become MASK, 10 % any word, 10 % stay.

    CLS is never chosen, SEP may be (so that stopping is learned), and of each text at least one is. Chance is torch's
    global one, on the CPU for every device.

    Args:
        text: What people wrote.
        share: How probably each word is chosen.
        mask: Index of MASK.
        vocabulary: Number of words.

    Returns:
        The texts with words hidden, and which were chosen.
    """
    there = text.there.cpu().clone()
    there[:, 0] = False
    chosen = there & (torch.rand(there.shape) < share)
    none = ~chosen.any(dim=1)
    if none.any():  # one of those there, all alike; the public code draws anew until one is chosen
        any_one = torch.multinomial(there[none].float(), 1)
        chosen[none] = chosen[none].scatter(1, any_one, True)
    kind = torch.rand(there.shape)
    others = torch.randint(FIRST_WORD, vocabulary, there.shape)
    words = text.words.cpu()
    words = words.masked_fill(chosen & (kind < 0.8), mask)
    words = torch.where(chosen & (kind >= 0.8) & (kind < 0.9), others, words)
    device = text.words.device
    return Sentences(words.to(device), text.there), chosen.to(device)


# Of the public classes here, this one is the head.
EXTENSION = Writer
