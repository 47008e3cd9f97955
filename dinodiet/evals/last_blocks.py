"""Class tokens of the last blocks, scored as embeddings are: the linear evaluation of DINO (arXiv:2104.14294)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor, nn

from dinodiet.config.ranges import AtLeastOne
from dinodiet.errors import NotApplicable, UserError
from dinodiet.types import Backbone, DataSpec, EmbeddingEvaluator, EncoderSplits, Score, Tokened, fits_labels


@dataclass(frozen=True, kw_only=True)
class LastBlocks:
    """Scores by `evaluator` of the class tokens of the last `blocks` side by side, each after the final norm."""

    needs: ClassVar[Literal["encoder"]] = "encoder"
    evaluator: EmbeddingEvaluator
    blocks: AtLeastOne[int] = 4

    @property
    def fits_labels(self) -> bool:
        """Return whether labels of train change the scores of the evaluator."""
        return fits_labels(self.evaluator)

    def applies(self, spec: DataSpec, num_train: int) -> None:
        """Refuse what the evaluator refuses."""
        self.evaluator.applies(spec, num_train)

    def suits(self, encoder: Backbone) -> None:
        """Refuse an encoder without class tokens, or with fewer blocks."""
        if not isinstance(encoder, Tokened):
            raise NotApplicable(f"needs the tokens of a transformer; {type(encoder).__name__} shows none")
        layout = encoder.token_layout()
        if not layout.class_token:
            raise NotApplicable("needs a class token, which the model lacks")
        if self.blocks > layout.depth:
            raise UserError(f"blocks: {self.blocks}; the model has {layout.depth}")

    def __call__(self, splits: EncoderSplits) -> dict[str, Score]:
        """Return the scores of `evaluator`.

        Raises:
            NotApplicable: the encoder has no class token, or as `evaluator` does.
        """
        assert isinstance(splits.encoder, Backbone)
        self.suits(splits.encoder)
        reader = _ClassTokens(splits.encoder, self.blocks)
        return self.evaluator(splits.embedded_by(reader, f"class tokens of the last {self.blocks}"))


class _ClassTokens(nn.Module):
    """An encoder that returns the class tokens (B, last * D) of its last blocks."""

    def __init__(self, encoder: nn.Module, last: int) -> None:
        super().__init__()
        self.encoder, self.last = encoder, last

    def forward(self, images: Tensor) -> Tensor:
        assert isinstance(self.encoder, Tokened)
        return self.encoder.class_tokens(images, self.last)
