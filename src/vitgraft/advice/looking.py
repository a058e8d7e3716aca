"""What a method does with data before it has a plan, not done but priced: a stand-in for the calibration.

What it gives is random, so that plans are like those that data lead to, and no more than like them.
"""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from vitgraft.core.backbone import Backbone
from vitgraft.core.plan import Plan
from vitgraft.core.tuned import Tuned
from vitgraft.grafts.elastic import Supernet
from vitgraft.methods.base import Recipe
from vitgraft.search.evolution import Candidate, Evolution, Score, Search
from vitgraft.search.sensitivity import without_data


@dataclass
class Looking:
    """Adds up in `seconds` what a method's look at the data would take: `methods.base.Calibration`.

    `epoch` prices an epoch of training a model, `gradient` an image's gradients of all weights, `passed` an
    image's forward pass. `batch` says of how many images gradients of all weights are asked together.
    """

    backbone: Backbone
    train: int
    val: int
    epochs: int
    epoch: Callable[[Tuned], float]
    gradient: Callable[[], float]
    passed: float
    seconds: float = 0.0
    batch: int = 0

    def fit(self, name: str, plan: Plan, recipe: Recipe, rate: float = 1.0, longer: int = 1) -> Tuned:
        model = Tuned(self.backbone, plan)
        self.seconds += self.epochs * longer * self.epoch(model)
        return model.eval()

    def once(self, name: str, make: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
        return make()

    def score(self, model: Tuned) -> Score:
        self.seconds += self.val * self.passed
        return 0.0, 0.0

    def search(
        self,
        name: str,
        model: Tuned,
        net: Supernet,
        evolution: Evolution,
        allowed: Callable[[Candidate], bool],
    ) -> Candidate:
        self.seconds += evolution.population * evolution.generations * self.val * self.passed
        return Search(net.dials, allowed, evolution).generation(0)[0]

    def squared_gradients(
        self, model: Tuned, limit: int, batch: int = 1, drop_path: float = 0.0
    ) -> dict[str, Tensor]:
        self.seconds += min(limit, self.train) * self.gradient()
        self.batch = batch
        return without_data(self.backbone, "random")
