"""The words of `trainable`."""

from typing import Any

import pytest

from dinodiet.backbones import set_trainable
from dinodiet.backbones.trainable import Trainable, parsed
from dinodiet.errors import UserError

from .small import build_small


@pytest.mark.parametrize(
    ("word", "meaning"),
    [
        ("all", Trainable("all", whole=True)),
        ("head_only", Trainable("head_only")),
        ("last_12_blocks", Trainable("last_12_blocks", blocks=12)),
        ("norms", Trainable("norms", kind="norms")),
        ("lora_16", Trainable("lora_16", rank=16)),
        ("lora_4+last_2_blocks", Trainable("lora_4+last_2_blocks", rank=4, blocks=2)),
        ("lora_4+last_1_block", Trainable("lora_4+last_1_block", rank=4, blocks=1)),
    ],
)
def test_a_word_means_what_it_says(word: str, meaning: Trainable) -> None:
    assert parsed(word) == meaning
    assert meaning.in_part == (word.startswith("lora") or word == "norms")


@pytest.mark.parametrize("word", ["last_2_block", "lora", "lora_0", "lora_4+norms", "lora_4+last_0_blocks", "LORA_4"])
def test_other_words_are_refused_with_all_that_there_are(word: str) -> None:
    known = r"all, head_only, last_<n>_blocks with n > 0, attn_proj, norms, bias, lora_<r> with r > 0, lora_<r>\+last"
    with pytest.raises(UserError, match=f"choose from: {known}"):
        parsed(word)


@pytest.mark.parametrize(
    ("trainable", "message"),
    [
        ("last_9_blocks", r"^trainable: 'last_9_blocks', .* 3 blocks"),
        ("last_0_blocks", r"^trainable: 'last_0_blocks'; choose from"),
        ("last_two_blocks", r"^trainable: 'last_two_blocks'; choose from"),
        ("everything", r"^trainable: 'everything'; choose from"),
        (None, r"^trainable: None; choose from"),
    ],
)
def test_malformed_choices_are_refused_and_change_nothing(trainable: Any, message: str) -> None:
    backbone = build_small("vit_tiny")
    set_trainable(backbone, "last_1_blocks")
    before = [p.requires_grad for p in backbone.parameters()]
    with pytest.raises(UserError, match=message):
        set_trainable(backbone, trainable)
    assert [p.requires_grad for p in backbone.parameters()] == before
