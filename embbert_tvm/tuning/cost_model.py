"""What candidates will cost, by their decisions: xgboost's trees of those that were measured.

MetaSchedule's own XGBModel trains up to 10,000 rounds by an objective in Python, a second at a time, and asks for a
schedule of every candidate that it ranks; its trees have the same settings.
"""

from __future__ import annotations

import numpy as np

WARM_UP = 16  # candidates of a kernel before the model has a say
_ROUNDS = 64
_TREES = {"max_depth": 10, "eta": 0.2, "gamma": 0.001, "min_child_weight": 0, "nthread": 1}


class CostModel:
    """Ranks candidates of one kernel. A candidate is a row of features, float (FEATURES,)."""

    def __init__(self, seed: int) -> None:
        self._random = np.random.default_rng(seed)
        self._seed = seed
        self._rows: list[np.ndarray] = []
        self._seconds: list[float] = []
        self._trees = None

    def update(self, rows: list[np.ndarray], seconds: list[float]) -> None:
        """Update the model with measured candidates."""
        self._rows += rows
        self._seconds += seconds
        if len(self._rows) >= WARM_UP:
            import xgboost

            speed = min(self._seconds) / np.asarray(self._seconds)
            data = xgboost.DMatrix(np.stack(self._rows), speed)
            self._trees = xgboost.train({**_TREES, "seed": self._seed}, data, _ROUNDS)

    def predict(self, rows: list[np.ndarray]) -> np.ndarray:
        """Score each candidate, the higher the better; any score as long as too few were measured."""
        if self._trees is None:
            return self._random.uniform(size=len(rows))
        return self._trees.inplace_predict(np.stack(rows))
