"""Tables of importance as they are measured, made up: for the explorer's tests, its benchmark and the browser."""

import numpy as np
import pandas as pd

from facelab.networks.layers import Layer

LEVELS = {"noise": (0.25, 0.5, 1.0, 2.0), "pruning": (0.1, 0.25, 0.5), "quantisation": (4.0, 3.0, 2.0), "bit swaps": (0.001, 0.02)}
GRIDS = {"pruning": (0.1, 0.3, 0.5, 0.7), "quantisation": (2.0, 2.5, 3.0, 4.0, 6.0)}


def tables(count: int = 6, ties: tuple[tuple[int, ...], ...] = ((1, 3),), seed: int = 0):
    """Layers, criteria, sensitivity, budgets of a network whose later layers matter less; `ties` are tied by additions."""
    generator = np.random.default_rng(seed)
    names = [f"conv{i + 1}" for i in range(count - 1)] + ["classifier"]
    sizes = (2 ** generator.uniform(7, 15, count)).astype(int)
    layers = [
        Layer(name, (8, 4, 3, 3), int(size), i + 1, 64 * int(size), 8, (8, 8, 8))
        for i, (name, size) in enumerate(zip(names, sizes, strict=True))
    ]
    matters = 0.4 * np.exp(-2 * np.arange(count) / count + generator.normal(0, 0.3, count))
    about = {"network": "made up", "kind": "layer", "channel": -1, "shape": "8x4x3x3"}
    criteria = [
        {
            **about,
            "layer": names[i],
            "parameters": sizes[i],
            "depth": i + 1,
            "criterion": criterion,
            "value": values[i],
            "unit": unit,
            "samples": 9,
        }
        for criterion, unit, values in (
            ("fisher", "nats^2", matters**2 * generator.uniform(0.5, 2, count)),
            ("depth", "layers", -np.arange(1.0, count + 1)),
            ("flat", "nats", np.zeros(count)),
        )
        for i in range(count)
    ]
    first = {i: tie[0] for tie in ties for i in tie}
    joined = {tie[0]: "+".join(names[i] for i in tie) for tie in ties}
    sensitivity = []
    for family, levels in LEVELS.items():
        for i in range(count):
            if family == "pruning" and first.get(i, i) != i:
                continue
            name = joined.get(i, names[i]) if family == "pruning" else names[i]
            for step, level in enumerate(levels):
                for draw in range(3 if family in ("noise", "bit swaps") else 1):
                    drop = matters[i] * (step + 1) / len(levels) * generator.uniform(0.8, 1.2)
                    figures = {"before": 0.98, "after": 0.98 - drop, "drop": drop, "low": drop - 0.03, "high": drop + 0.02}
                    row = {**about, "layer": name, "parameters": sizes[i], "depth": i + 1, "family": family, "level": level, "draw": draw}
                    sensitivity.append({**row, **figures, "unit": "share", "samples": 500})
    budgets = []
    for use, grid in GRIDS.items():
        for source, loss in (("fisher", 0.1), ("uniform", 0.2), ("measured", 0.05)):
            for budget in grid:
                if source == "uniform" and budget == 2.5:
                    continue
                hurt = loss * (budget if use == "pruning" else 4 / budget)
                figures = {
                    "predicted": np.nan if source == "uniform" else 0.97 - hurt,
                    "measured": 0.98 - hurt,
                    "low": 0.96 - hurt,
                    "high": 0.99 - hurt,
                }
                amounts = generator.uniform(0, 0.9, count) if use == "pruning" else generator.integers(2, 8, count)
                for name, amount in zip(names[:-1] if use == "pruning" else names, amounts, strict=False):
                    budgets.append(
                        {"use": use, "source": source, "budget": budget, "unit": "units", "layer": name, "amount": float(amount), **figures}
                    )
    return layers, pd.DataFrame(criteria), pd.DataFrame(sensitivity), pd.DataFrame(budgets)
