from pathlib import Path

from dinodiet.config.schema import identity, run_id
from tests.running import CHOICES, composed


def test_the_identity_leaves_out_what_does_not_change_the_science(tmp_path: Path) -> None:
    plain = identity(composed(tmp_path))
    unchanged = (
        "device=auto",
        "num_workers=3",
        "grad_checkpointing=true",
        "decoded_gib=0",
        "tracker=wandb",
        "name=x",
        "data_dir=/elsewhere",
        "checkpoint_minutes=1",
    )
    for override in unchanged:
        assert identity(composed(tmp_path, override)) == plain, override
    for override in ("seed=1", "schedule.lr=0.1", "dataset.limit=32", "precision=bf16", "eval.knn.k=3"):
        assert identity(composed(tmp_path, override)) != plain, override


def test_the_run_id_is_readable_and_depends_on_the_identity_alone(tmp_path: Path) -> None:
    one, other = identity(composed(tmp_path)), identity(composed(tmp_path, "seed=7"))
    assert run_id(one, CHOICES).rpartition("_")[0] == "vit_tiny_digits_diet_seed0"
    assert run_id(one, CHOICES) == run_id(dict(reversed(one.items())), CHOICES)
    assert run_id(one, CHOICES).split("_")[-1] != run_id(other, CHOICES).split("_")[-1]
    assert run_id(one, {**CHOICES, "model": "mae"}).startswith("mae-tiny_")
