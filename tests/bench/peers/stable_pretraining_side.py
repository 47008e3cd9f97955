"""stable-pretraining's DINO as its examples have it: module, Lightning trainer, manager. As a script: one whole job."""

from __future__ import annotations

import json
import os
import tempfile
import types
from typing import Any

os.environ.setdefault("SPT_CACHE_DIR", tempfile.mkdtemp())  # read at import

import lightning as pl
import stable_pretraining as spt
import torch
import torch.nn.functional as F
from stable_pretraining.data import transforms
from stable_pretraining.methods.dino import DINO
from torch import Tensor
from torch.utils.data import DataLoader
from torch.utils.flop_counter import FlopCounterMode
from torchvision.transforms import InterpolationMode

from tests.bench.peers import digits, setting
from tests.bench.peers.setting import Images, Meter, Setting

spt.set(verbose="ERROR", progress_bar="none")


def forward(self: DINO, batch: dict[str, Any], stage: str) -> dict[str, Any]:
    """Hand the method the views of a batch, as the library's examples do."""
    if "image" in batch:
        return {"embedding": DINO.forward(self, images=batch["image"]).embedding, "label": batch["label"]}
    views = {
        kind: [view["image"] for name, view in batch.items() if name.startswith(kind)] for kind in ("global", "local")
    }
    output = DINO.forward(self, global_views=views["global"], local_views=views["local"])
    self.log("fit/loss", output.loss, on_step=True, on_epoch=True)
    return {"loss": output.loss, "embedding": output.embedding}


def view(size: int, scale: tuple[float, float], blur: float, solarize: float) -> Any:
    """Return the transform of one view."""
    steps = [
        transforms.RGB(),
        transforms.RandomResizedCrop((size, size), scale=scale, interpolation=InterpolationMode.BICUBIC),
        transforms.RandomHorizontalFlip(p=0.5),
        transforms.ColorJitter(*setting.JITTER, p=0.8),
        transforms.RandomGrayscale(p=0.2),
        transforms.PILGaussianBlur(sigma=setting.BLUR_SIGMA, p=blur),
    ]
    if solarize:
        steps.append(transforms.RandomSolarize(threshold=128, p=solarize))
    return transforms.Compose(*steps, transforms.ToImage(**spt.data.static.ImageNet))


class Training:
    """Everything one training needs."""

    def __init__(self, chosen: Setting, data: Images, *, workers: int = 0) -> None:
        args = {key: value for key, value in chosen.timm_args.items() if key != "num_classes"}
        self.module = DINO(
            encoder_name="vit_tiny_patch16_224",
            encoder_kwargs=args,
            projector_hidden_dim=setting.HIDDEN,
            projector_bottleneck_dim=setting.BOTTLENECK,
            n_prototypes=chosen.out_dim,
            temperature_teacher_warmup=setting.TEACHER_TEMP,
            temperature_teacher=setting.TEACHER_TEMP,
            warmup_epochs_temperature_teacher=0,
            ema_decay_start=setting.MOMENTUM,
        )
        self.module.forward = types.MethodType(forward, self.module)
        self.module.optim = {
            "optimizer": {"type": "AdamW", "lr": setting.LR, "weight_decay": setting.WEIGHT_DECAY},
            "scheduler": {"type": "LinearWarmupCosineAnnealing"},
        }
        large = [view(chosen.size, setting.GLOBAL_SCALE, *photometry) for photometry in ((1.0, 0.0), (0.1, 0.2))]
        small = [view(chosen.local, setting.LOCAL_SCALE, 0.5, 0.0) for _ in range(chosen.num_local)]
        named = {f"global_{n}": part for n, part in enumerate(large)}
        views = transforms.MultiViewTransform(named | {f"local_{n}": part for n, part in enumerate(small)})
        train = spt.data.FromTorchDataset(data, names=["image", "label"], transform=views)
        self.data = spt.data.DataModule(
            train=DataLoader(train, batch_size=chosen.batch, shuffle=True, drop_last=True, num_workers=workers)
        )

    def train(self, epochs: int, **settings: Any) -> None:
        """Let the manager fit the module; `settings` are the trainer's."""
        callbacks = [spt.callbacks.TeacherStudentCallback(), *settings.pop("callbacks", [])]
        trainer = pl.Trainer(
            max_epochs=epochs,
            num_sanity_val_steps=0,
            callbacks=callbacks,
            accelerator="cpu",
            devices=1,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            **settings,
        )
        spt.Manager(trainer=trainer, module=self.module, data=self.data)()

    def run(self, steps: int) -> list[tuple[float, float]]:
        """Return the seconds of `steps` steps of the loop after a first one, see `Meter`."""
        meter = Meter()
        spt.set(default_callbacks={"env_dump": False})  # a thread that would be timed with the first steps
        last = pl.pytorch.callbacks.LambdaCallback(on_train_batch_end=meter.step_done)
        self.train(1, limit_train_batches=steps + 1, callbacks=[last])
        return meter.steps

    def flops(self, views: list[Tensor]) -> int:
        """Return the operations of a step's matrix products, given its views."""
        large, small = views[: setting.NUM_GLOBAL], views[setting.NUM_GLOBAL :]
        with FlopCounterMode(display=False) as counter:
            DINO.forward(self.module, global_views=large, local_views=small).loss.backward()
        self.module.zero_grad()
        return int(counter.get_total_flops())


def build(chosen: Setting, workers: int) -> Training:
    """Return a training on generated images."""
    return Training(chosen, setting.generated(chosen), workers=workers)


@torch.no_grad()
def embed(module: DINO, loader: DataLoader[Any]) -> tuple[Tensor, Tensor]:
    """Return the teacher's normalised features and the labels."""
    module.eval()
    rows = [(F.normalize(module.backbone.forward_teacher(batch["image"]), dim=1), batch["label"]) for batch in loader]
    module.train()
    return torch.cat([features for features, _ in rows]), torch.cat([labels for _, labels in rows])


def knn(module: DINO, train: DataLoader[Any], test: DataLoader[Any]) -> float:
    """Return the accuracy of weighted k-NN; the library's own one needs a queue that training fills."""
    bank, bank_labels = embed(module, train)
    features, labels = embed(module, test)
    similarity, nearest = (features @ bank.T).topk(digits.K)
    votes = torch.zeros(len(labels), setting.NUM_CLASSES)
    votes.scatter_add_(1, bank_labels[nearest], (similarity / digits.TEMPERATURE).exp())
    return float((votes.argmax(1) == labels).float().mean())


def main() -> None:
    """Train on the digits and print k-NN's accuracy before and after."""
    torch.manual_seed(0)
    train, test = digits.split()
    job = Training(digits.SETTING, Images(*train))
    size = digits.SETTING.size
    resize = transforms.Resize((size, size), interpolation=InterpolationMode.BICUBIC)
    plain = transforms.Compose(transforms.RGB(), resize, transforms.ToImage(**spt.data.static.ImageNet))
    sets = [
        spt.data.FromTorchDataset(Images(*part), names=["image", "label"], transform=plain) for part in (train, test)
    ]
    loaders = [DataLoader(part, batch_size=256) for part in sets]
    before = knn(job.module, *loaders)
    job.train(digits.EPOCHS)
    print(json.dumps({"initial": before, "final": knn(job.module, *loaders)}))


if __name__ == "__main__":
    main()
