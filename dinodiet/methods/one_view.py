"""What methods share that embed one augmented view of each image and train a head on it: DIET, supervised training."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from dinodiet.errors import UserError
from dinodiet.features.trunk_cache import TrunkCache
from dinodiet.methods.base import MethodBase
from dinodiet.methods.parts.check_views import check_views
from dinodiet.methods.parts.diagnostics import effective_rank
from dinodiet.methods.parts.mix import Mix, Mixed
from dinodiet.methods.parts.param_groups import weight_decay_groups
from dinodiet.types import Backbone, Batch, Clock, Images, ParamGroup, Runtime, ShownView, Views


@dataclass(frozen=True)
class Source:
    """Where the embeddings of a batch come from: the YAML nodes `views`, `mix` and `trunk` of a method.

    `views` are made from `input`, the backbone's specification of its input. `mix` mixes them. `trunk` returns a cache
    from which views are drawn instead, or None; it is given `backbone`, `augment` and `trainable`.
    """

    views: Callable[..., Views]
    mix: Mix | None = None
    trunk: Callable[..., TrunkCache | None] | None = None


class OneViewMethod(MethodBase):
    """A backbone that embeds one view of each image; what is derived from it adds a head and a loss.

    `head_lr_scale` is the learning rate of all that is not the backbone over the backbone's; other arguments as
    `MethodBase`.

    Raises:
        UserError: a part refuses its settings, or views are cached and to be mixed.
    """

    def __init__(
        self, backbone: Backbone, source: Source, *, trainable: str, warmup_fraction: float, head_lr_scale: float
    ) -> None:
        super().__init__(backbone, trainable=trainable, warmup_fraction=warmup_fraction)
        self.views = source.views(input=backbone.input)
        check_views(self.views, backbone)
        self.mix, self._head_lr_scale = source.mix or Mix(), head_lr_scale
        self.trunk = source.trunk(backbone=backbone, augment=self.views, trainable=trainable) if source.trunk else None
        if self.trunk is not None and self.mix.kinds:
            raise UserError(f"trunk: views are cached, but {self.mix.kinds[0]} mixes images, which are not there then")
        self._last: Tensor | None = None

    def embedded(self, batch: Batch, clock: Clock) -> tuple[Mixed, Tensor]:
        """Return how a view of the batch was mixed, and its embeddings (B, embed_dim)."""
        mixed, embeddings = self._embedded(batch, clock)
        self._last = embeddings.detach()
        self._keep(len(batch), {"student/embeddings": embeddings})
        return mixed, embeddings

    def _embedded(self, batch: Batch, clock: Clock) -> tuple[Mixed, Tensor]:
        if self.trunk is not None:
            hidden = self.trunk.draw(batch.index, clock)
            with self.phase(clock):
                return Mixed(hidden[0], batch.index, 1.0), self.trunk.rest(hidden)
        mixed = self.mixed_view(batch, clock)
        return mixed, self.embed(mixed.images, clock)

    def mixed_view(self, batch: Batch, clock: Clock) -> Mixed:
        """Return a view of each image of a batch, mixed."""
        return self.mix(self._view(batch, clock), clock.generator("mix"))

    def _view(self, batch: Batch, clock: Clock) -> Tensor:
        (images,) = self.views(batch.images, clock.generator("views"))
        return images

    def shown_views(self, batch: Batch, clock: Clock, images: Images) -> list[ShownView]:
        """Return the view of each image, and where they are mixed what becomes of it."""
        if self.trunk is not None:
            return [ShownView("view (kept)", self.trunk.view(images, batch.index, clock))]
        view = self._view(batch, clock)
        mixed = self.mix(view, clock.generator("mix"))
        shown = [ShownView("view", view)]
        return shown if mixed.kept == 1.0 else [*shown, ShownView(f"mixed, {mixed.kept:.0%} own", mixed.images)]

    @property
    def reads_images(self) -> bool:
        """Return whether the images of a batch are read: with a trunk cache they are not."""
        return self.trunk is None

    @property
    def draft_side(self) -> int | None:
        """Return that of the views."""
        return self.views.draft_side

    def prepare(self, images: Images, clock: Clock, runtime: Runtime) -> None:
        """Fill the trunk cache, or find it in the runtime's cache."""
        if self.trunk is not None:
            self.trunk.prepare(images, clock, runtime)

    def param_groups(self) -> list[ParamGroup]:
        """Return the backbone's groups and the heads' groups, which have their own learning rate."""
        named = [(name, p) for name, p in self.named_parameters() if not name.startswith("backbone.")]
        backbone = weight_decay_groups((n, p) for n, p in self.named_parameters() if n.startswith("backbone."))
        heads = weight_decay_groups(named)
        for group in backbone:
            group.name = f"backbone_{group.name}"
        for group in heads:
            group.name, group.lr_scale = f"head_{group.name}", self._head_lr_scale
        return backbone + heads

    def diagnostics(self) -> dict[str, float]:
        """Return the effective rank of the last batch's embeddings; a fall towards 1 is collapse."""
        return {} if self._last is None else {"effective_rank": effective_rank(self._last)}
