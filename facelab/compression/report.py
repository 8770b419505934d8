"""The bench's table as a parquet file and as one html page that needs no network."""

import html
from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from facelab.pictures.compression import interactive_tradeoff

HEADS = {
    "network": "network",
    "score": "score (95 %)",
    "parameters": "parameters",
    "multiplies": "multiplies",
    "bytes": "bytes stored",
    "latency": "time over the original's (95 %)",
    "architecture": "widths",
}


def saved(table: pd.DataFrame, path: str | Path) -> Path:
    """Writes a table to a parquet file, whole or not at all."""
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    unfinished = target.with_name(target.name + ".unfinished")
    table.to_parquet(unfinished, index=False)
    unfinished.replace(target)
    return target


def shown(table: pd.DataFrame) -> pd.DataFrame:
    """The table of `bench.evaluate` for people: figures with their intervals, costs beside their share of the original's."""
    first = table.iloc[0]
    rows = [
        {
            "network": row.network,
            "score": f"{row.score:.4g} ({row.score_low:.4g} to {row.score_high:.4g})",
            **{cost: f"{getattr(row, cost):,} ({getattr(row, cost) / first[cost]:.0%})" for cost in ("parameters", "multiplies", "bytes")},
            "latency": f"{row.latency:.2f} ({row.latency_low:.2f} to {row.latency_high:.2f})",
            "architecture": row.architecture,
        }
        for row in table.itertuples()
    ]
    return pd.DataFrame(rows).rename(columns=HEADS)


def write_page(path: str | Path, title: str, table: pd.DataFrame, layers: pd.DataFrame, reports: Mapping[str, pd.DataFrame]) -> Path:
    """One html page with the pictures and tables of a bench; everything in it, so that it opens without a network.

    Args:
        path: where to write it.
        title: of the page.
        table, layers: of `bench.evaluate`.
        reports: name of a method -> its own table.
    """
    figures = [
        interactive_tradeoff(table, cost).to_html(full_html=False, include_plotlyjs=number == 0, div_id=cost)
        for number, cost in enumerate(("bytes", "multiplies", "latency"))
    ]
    unit = html.escape(str(table.unit.iloc[0]))
    errors = (
        layers.pivot_table(index=["depth", "layer"], columns="network", values="unexplained", sort=False)
        .reset_index()
        .rename_axis(columns=None)
    )
    parts = [
        f"<h1>{html.escape(title)}</h1>",
        f"<p>Score in {unit}, higher is better. Time: median of the ratio to the original, both measured in turns.</p>",
        shown(table).to_html(index=False, border=0),
        "<h2>Score against cost</h2>",
        f'<div class="row">{"".join(figures)}</div>',
        "<h2>What is lost, layer by layer</h2>",
        "<p>Share of the variance of the original layer's outputs that no linear map of the smaller layer's outputs gives.</p>",
        errors.to_html(index=False, border=0, float_format="{:.4f}".format, na_rep="-"),
        *(
            f"<details><summary>{html.escape(name)}: what it did</summary>{one.to_html(index=False, border=0, na_rep='-')}</details>"
            for name, one in reports.items()
        ),
    ]
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(_PAGE.replace("TITLE", html.escape(title)).replace("BODY", "\n".join(parts)), encoding="utf-8")
    return target


_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>TITLE</title>
<style>
body { font: 14px/1.45 "DejaVu Sans", system-ui, sans-serif; margin: 1.5em auto; padding: 0 1em;
       max-width: 1300px; color: #222222; background: white }
table { border-collapse: collapse; margin: .8em 0 } td, th { padding: .25em .8em; text-align: left; border-bottom: 1px solid #dddddd }
.row { display: flex; flex-wrap: wrap; gap: 1em } summary { cursor: pointer; margin: .6em 0 }
</style></head><body>
BODY
</body></html>
"""
