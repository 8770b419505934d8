"""Settled figures as tables: beside a run in its notebook, one row per notebook in README.md, every claim in docs/scoreboard.md."""

from pathlib import Path
from typing import Any

from facelab.running import Notebook
from facelab.settling import FOLDER, PACKAGE, load, load_all

MARKS = ("<!-- scoreboard: written by `facelab scoreboard --readme` -->", "<!-- end of scoreboard -->")


def verdict(claim: dict[str, Any]) -> str:
    """In words: "holds" if judged, "against" if the whole pooled interval lies below zero, else "shown"."""
    if claim["high"] < 0:
        return "against"
    return "shown" if claim["indicative"] else "holds"


def row(claim: dict[str, Any]) -> dict[str, str]:
    """A settled claim as readable text, column by column."""
    runs, gains = len(claim["gains"]), claim["gains"]
    unit = "" if not claim["unit"] else claim["unit"] if claim["unit"] == "%" else f" {claim['unit']}"
    return {
        "claim": claim["statement"],
        "ours": f"{claim['ours']:.4g}{unit}",
        "baseline": f"{claim['baseline']:.4g}{unit}",
        "pooled gain": f"{claim['gain']:+.1%}",
        "95 % interval": f"{claim['low']:+.1%} to {claim['high']:+.1%}",
        "gains of the runs": f"{min(gains):+.1%} to {max(gains):+.1%}",
        "must exceed": f"{claim['margin']:.0%}",
        "met in": f"{claim['met']} of {runs}",
        "verdict": verdict(claim),
    }


def show_settled(slug: str, *claims, **variant):
    """The claims of this run beside their settled figures, as a table for a notebook.

    Args:
        slug: of the notebook.
        claims: as `facelab.claims.claim` returned them.
        variant: parameters whose settled figures are meant, such as source="p1".
    """
    import pandas as pd

    settled = load(slug, variant, FOLDER)
    if settled is None:
        print(f"There are no settled figures of this variant yet; facelab settle {slug} makes them.")
        return None
    known = {claim["name"]: claim for claim in settled["claims"]}
    rows = []
    for claim in claims:
        of = known[claim.name]
        runs = len(of["gains"])
        rows.append(
            {
                "claim": claim.statement,
                "gain here": f"{claim.gain:+.1%}",
                f"gains of {runs} runs": f"{min(of['gains']):+.1%} to {max(of['gains']):+.1%}",
                "pooled, 95 % interval": f"{of['gain']:+.1%} ({of['low']:+.1%} to {of['high']:+.1%})",
                "met in": f"{of['met']} of {runs}",
                "so it": {"holds": "holds", "against": "does not hold", "shown": "is open"}[verdict(of)],
            }
        )
    return pd.DataFrame(rows).style.hide(axis="index").set_properties(**{"text-align": "left", "white-space": "normal"})


def tables(notebooks: list[Notebook], root: Path = PACKAGE.parent, folder: Path = FOLDER) -> dict[Path, str]:
    """README.md with one row per notebook, and docs/scoreboard.md with all settled claims: path -> text.

    Raises:
        ValueError: README.md lacks the marks between which its table stands.
    """
    readme = (root / "README.md").read_text(encoding="utf-8")
    if not all(mark in readme for mark in MARKS):
        raise ValueError(f"README.md lacks the marks of the scoreboard; put {MARKS[0]!r} and {MARKS[1]!r} where the table belongs.")
    found = [(notebook, figures) for notebook in notebooks for figures in load_all(notebook.slug, folder)]
    before, after = readme.split(MARKS[0])[0], readme.split(MARKS[1])[1]
    rows = markdown_table([_summary(notebook, figures, root) for notebook, figures in found])
    board = [
        "# Scoreboard",
        "Every claim of the course, as settled: pooled over several seeds and over several arithmetics of the same processor. Written by "
        "`facelab scoreboard --readme` from `data/settled`, never by hand. A claim *holds* if it is judged in the notebook; then it was "
        "met in every run. What is *shown* is measured with the same care and not promised. *Against* means that the whole "
        "interval lies on the wrong side of zero.",
    ]
    for notebook, figures in found:
        variant = ", ".join(f"{key}={value}" for key, value in figures["parameters"].items())
        board += [f"## {notebook.slug}" + (f", {variant}" if variant else "")]
        board += [f"{notebook.title}. {len(figures['runs'])} runs; {_processors(figures)}."]
        board += [markdown_table([row(claim) for claim in figures["claims"]])] if figures["claims"] else []
    return {
        root / "README.md": f"{before}{MARKS[0]}\n\n{rows}\n\n{MARKS[1]}{after}",
        root / "docs" / "scoreboard.md": "\n\n".join(board) + "\n",
    }


def _summary(notebook: Notebook, figures: dict[str, Any], root: Path) -> dict[str, str]:
    """The row of README.md."""
    judged = [claim for claim in figures["claims"] if not claim["indicative"]]
    runs = len(figures["runs"])
    held = sum(all(claim["lows"][i] > claim["margin"] for claim in judged) for i in range(runs))
    variant = ", ".join(f"`{key}={value}`" for key, value in figures["parameters"].items())
    others = [verdict(claim) for claim in figures["claims"] if claim["indicative"]]
    return {
        "notebook": f"[{notebook.slug}]({notebook.path.relative_to(root).as_posix()})" + (f" with {variant}" if variant else ""),
        "claims judged": str(len(judged)),
        "runs in which all of them held": f"{held} of {runs}" if judged else "",
        "shown, not judged": str(len(others)) if others else "",
        "of these against": str(others.count("against")) if "against" in others else "",
    }


def _processors(figures: dict[str, Any]) -> str:
    return "; ".join(dict.fromkeys(f"{run['processor']} ({run['instructions']})" for run in figures["runs"]))


def markdown_table(rows: list[dict[str, str]]) -> str:
    """Rows of one set of columns as a Markdown table."""
    lines = [list(rows[0]), ["---"] * len(rows[0]), *(list(row.values()) for row in rows)]
    return "\n".join("| " + " | ".join(value.replace("|", "\\|") for value in line) + " |" for line in lines)
