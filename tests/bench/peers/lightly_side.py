"""lightly's DINO as its documentation for plain PyTorch has it. As a script: one whole job on the digits."""

from __future__ import annotations

import copy
import itertools
import json
import sys
from collections.abc import Callable
from typing import Any

import timm
import torch
import torch.nn.functional as F
from lightly.loss import DINOLoss
from lightly.models.modules import DINOProjectionHead
from lightly.models.utils import deactivate_requires_grad, update_momentum
from lightly.transforms.dino_transform import DINOTransform
from lightly.utils.benchmarking.knn import knn_predict
from lightly.utils.scheduler import cosine_schedule
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torch.utils.flop_counter import FlopCounterMode
from torchvision.transforms import v2

from tests.bench.peers import digits, setting
from tests.bench.peers.setting import Images, Meter, Setting


class DINO(nn.Module):
    """Student and teacher."""

    def __init__(self, chosen: Setting) -> None:
        super().__init__()
        backbone = timm.create_model("vit_tiny_patch16_224", **chosen.timm_args)
        head = (backbone.num_features, setting.HIDDEN, setting.BOTTLENECK, chosen.out_dim)
        self.student_backbone, self.student_head = backbone, DINOProjectionHead(*head)
        self.teacher_backbone, self.teacher_head = copy.deepcopy(backbone), DINOProjectionHead(*head)
        deactivate_requires_grad(self.teacher_backbone)
        deactivate_requires_grad(self.teacher_head)

    def forward(self, images: Tensor) -> Tensor:
        """Return the student's logits."""
        logits: Tensor = self.student_head(self.student_backbone(images).flatten(start_dim=1))
        return logits

    def forward_teacher(self, images: Tensor) -> Tensor:
        """Return the teacher's logits."""
        logits: Tensor = self.teacher_head(self.teacher_backbone(images).flatten(start_dim=1))
        return logits


class Training:
    """Everything one training needs. `grouped` leaves the documentation: one forward pass per size of crop."""

    def __init__(self, chosen: Setting, data: Images, *, workers: int = 0, grouped: bool = False) -> None:
        self.setting, self.grouped = chosen, grouped
        self.model = DINO(chosen)
        self.criterion = DINOLoss(
            output_dim=chosen.out_dim,
            warmup_teacher_temp=setting.TEACHER_TEMP,
            teacher_temp=setting.TEACHER_TEMP,
            warmup_teacher_temp_epochs=1,
        )
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=setting.LR, weight_decay=setting.WEIGHT_DECAY)
        data.transform = DINOTransform(
            global_crop_size=chosen.size,
            global_crop_scale=setting.GLOBAL_SCALE,
            local_crop_size=chosen.local,
            local_crop_scale=setting.LOCAL_SCALE,
            n_local_views=chosen.num_local,
            sigmas=setting.BLUR_SIGMA,
        )
        self.loader: DataLoader[Any] = DataLoader(
            data,
            batch_size=chosen.batch,
            shuffle=True,
            drop_last=True,
            num_workers=workers,
        )

    def logits(self, views: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Return the teacher's and the student's logits by view."""
        large = views[: setting.NUM_GLOBAL]
        if not self.grouped:
            return [self.model.forward_teacher(view) for view in large], [self.model(view) for view in views]
        sizes = (large, views[setting.NUM_GLOBAL :])
        student = [part for group in sizes for part in self.model(torch.cat(group)).chunk(len(group))]
        return list(self.model.forward_teacher(torch.cat(large)).chunk(len(large))), student

    def train(self, epochs: int, on_step: Callable[[], None], steps: int | None = None) -> None:
        """Run the loop; `steps` ends an epoch early."""
        for epoch in range(epochs):
            momentum = cosine_schedule(epoch, epochs, setting.MOMENTUM, 1) if epochs > 1 else setting.MOMENTUM
            total_loss = torch.zeros(())
            for views, _ in itertools.islice(self.loader, steps):
                update_momentum(self.model.student_backbone, self.model.teacher_backbone, m=momentum)
                update_momentum(self.model.student_head, self.model.teacher_head, m=momentum)
                teacher_out, student_out = self.logits(views)
                loss = self.criterion(teacher_out, student_out, epoch=epoch)
                total_loss += loss.detach()
                loss.backward()
                self.model.student_head.cancel_last_layer_gradients(current_epoch=epoch)
                self.optimizer.step()
                self.optimizer.zero_grad()
                on_step()
            print(f"epoch {epoch}: loss {total_loss / len(self.loader):.5f}", file=sys.stderr)

    def run(self, steps: int) -> list[tuple[float, float]]:
        """Return the seconds of `steps` steps of the loop after a first one, see `Meter`."""
        meter = Meter()
        self.train(1, meter.step_done, steps + 1)
        return meter.steps

    def flops(self, views: list[Tensor]) -> int:
        """Return the operations of a step's matrix products, given its views."""
        with FlopCounterMode(display=False) as counter:
            teacher_out, student_out = self.logits(views)
            self.criterion(teacher_out, student_out).backward()
        self.optimizer.zero_grad()
        return int(counter.get_total_flops())


def build(chosen: Setting, workers: int, *, grouped: bool = False) -> Training:
    """Return a training on generated images."""
    return Training(chosen, setting.generated(chosen), workers=workers, grouped=grouped)


@torch.no_grad()
def embed(model: DINO, loader: DataLoader[Any]) -> tuple[Tensor, Tensor]:
    """Return the teacher's normalised features and the labels."""
    model.eval()
    rows = [(F.normalize(model.teacher_backbone(images), dim=1), labels) for images, labels in loader]
    model.train()
    return torch.cat([features for features, _ in rows]), torch.cat([labels for _, labels in rows])


def knn(model: DINO, train: DataLoader[Any], test: DataLoader[Any]) -> float:
    """Return the accuracy of weighted k-NN."""
    bank, bank_labels = embed(model, train)
    features, labels = embed(model, test)
    votes = knn_predict(features, bank.T, bank_labels, setting.NUM_CLASSES, knn_k=digits.K, knn_t=digits.TEMPERATURE)
    return float((votes[:, 0] == labels).float().mean())


def main() -> None:
    """Train on the digits and print k-NN's accuracy before and after."""
    torch.manual_seed(0)
    train, test = digits.split()
    job = Training(digits.SETTING, Images(*train))
    resize = v2.Resize(digits.SETTING.size, interpolation=v2.InterpolationMode.BICUBIC)
    normalize = v2.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    plain = v2.Compose([v2.ToImage(), resize, v2.ToDtype(torch.float32, scale=True), normalize])
    loaders = [DataLoader[Any](Images(*part, plain), batch_size=256) for part in (train, test)]
    before = knn(job.model, *loaders)
    job.train(digits.EPOCHS, lambda: None)
    print(json.dumps({"initial": before, "final": knn(job.model, *loaders)}))


if __name__ == "__main__":
    main()
