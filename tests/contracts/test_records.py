"""What every file of conf/record keeps to, and what methods show of themselves."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch import nn

from dinodiet.config.build import build
from dinodiet.run.readouts import readouts_of
from dinodiet.run.run import run
from dinodiet.store.records import columns_of, read_record
from dinodiet.types import Backbone, Record, Recorded
from tests.contracts.choices import names, node, settings
from tests.contracts.test_evals import assert_defaults
from tests.contracts.test_methods import METHODS, middle, parts_of
from tests.kinds import kinds_nightly
from tests.places import CONF

RECORDS = names("record")


@pytest.mark.parametrize("name", RECORDS)
def test_a_file_states_the_defaults_of_its_class(name: str) -> None:
    assert (CONF / "record" / f"{name}.yaml").read_text().startswith(f"# @package record.{name}\n")
    assert_defaults(node("record", name)[name])
    assert build(node("record", name)[name], f"record.{name}", Record)().every_steps >= 1


def test_all_are_written_of_a_method_without_a_teacher(tmp_path: Path) -> None:
    words = (f"record=[{','.join(RECORDS)}]", "method=supervised", "schedule.epochs=1", "schedule.accumulate=2")
    run(settings(tmp_path, *words))
    (folder,) = tmp_path.glob("*/*/records")
    assert {path.name for path in folder.iterdir()} == set(RECORDS)
    for name in RECORDS:
        table = read_record(folder / name)
        assert set(table["step"].to_pylist()) <= {0, 4} and 4 in table["step"].to_pylist()
        values = [table[column].to_pylist()[-1] for column in columns_of(folder / name)]
        assert values and all(math.isfinite(value) for value in values)
        assert not any("teacher" in column for column in table.column_names)


@pytest.mark.parametrize("method", kinds_nightly("method", METHODS))
def test_a_method_shows_what_it_computes(method: str, tmp_path: Path) -> None:
    """Networks have an encoder; features of a step are of the kinds that the readout has; nothing else is moved."""
    parts = parts_of(tmp_path, method)
    own, (batch, clock) = parts.method, middle(parts)
    networks = own.networks()
    assert next(iter(networks)) == "student" and networks["student"]["encoder"] is own.backbone
    assert all(isinstance(network["encoder"], nn.Module) for network in networks.values())
    own.train()
    assert own.features(clock) == {}
    torch.manual_seed(0)  # for drop path
    expected = own(batch, clock)["loss"]
    own.keep_features()
    torch.manual_seed(0)
    assert torch.equal(own(batch, clock)["loss"], expected)
    shown = own.features(clock)
    look = Recorded(own, parts.state.optimizer, parts.data.val, parts.backbone.input, parts.runtime, clock)
    assert {name.partition("/")[2] for name in shown} == {"embeddings", *readouts_of(look.method, look.clock)}
    for name, features in shown.items():
        assert features.shape[1] == len(batch) and features.ndim == 3 and not features.requires_grad, name
        encoder = networks[name.partition("/")[0]]["encoder"]
        assert isinstance(encoder, Backbone) or "teacher" in name
        assert not name.endswith("embeddings") or features.shape[2] == encoder.embed_dim
    assert all(math.isfinite(value) for value in own.hyperparameters(clock).values())
