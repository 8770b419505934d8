"""Settled figures as tables: beside a run in its notebook, one row per notebook in README.md, every claim in docs/scoreboard.md."""

from pathlib import Path
from typing import Any

from facelab.claims import as_gain, as_margin
from facelab.course.fingerprints import PACKAGE
from facelab.course.running import Notebook
from facelab.course.settling import FOLDER, load, load_all, may_be_judged

MARKS = ("<!-- scoreboard: written by `facelab scoreboard --readme` -->", "<!-- end of scoreboard -->")


def verdict(claim: dict[str, Any]) -> str:
    """In words: "holds" if judged with reason, "against" if the pooled interval lies below zero and the margin; else open."""
    if claim["high"] is not None and claim["high"] < min(0.0, claim["margin"]):
        return "against"
    if may_be_judged(claim):
        return "shown, held in every run" if claim["indicative"] else "holds"
    return "open" if claim["indicative"] else "not settled"


def row(claim: dict[str, Any]) -> dict[str, str]:
    """A settled claim as readable text, column by column."""
    runs = len(claim["gains"])
    unit = "" if not claim["unit"] else claim["unit"] if claim["unit"] == "%" else f" {claim['unit']}"
    return {
        "claim": claim["statement"],
        "ours": f"{claim['ours']:.4g}{unit}",
        "baseline": f"{claim['baseline']:.4g}{unit}",
        "pooled gain": _as_gain(claim, claim["gain"]),
        "95 % interval": f"{_as_gain(claim, claim['low'])} to {_as_gain(claim, claim['high'])}",
        "gains of the runs": _range(claim),
        "must exceed": as_margin(claim["margin"], claim["unit"], claim.get("absolute", False)),
        "met in": f"{claim['met']} of {runs}",
        "verdict": verdict(claim),
    }


def point(figures: dict[str, Any], claim: dict[str, Any]) -> dict[str, Any]:
    """A settled claim as `facelab.pictures.scoreboard.draw_scoreboard` takes it; relative gains in percent."""
    scale = 1 if claim.get("absolute", False) else 100
    unit = {"%": "points of a percentage", "": "difference of the scores"}.get(claim["unit"], claim["unit"])
    shown = row(claim)
    return {
        "label": f"{heading(figures)}: {claim['name']}",
        "measure": "gain, percent of the baseline" if scale == 100 else f"gain, {unit}",
        "gains": [None if gain is None else scale * gain for gain in claim["gains"]],
        "margin": scale * claim["margin"],
        "verdict": verdict(claim),
        "hover": [f"<b>{shown['claim']}</b>", *(f"{name}: {text}" for name, text in shown.items() if name != "claim")],
    } | {name: None if claim[name] is None else scale * claim[name] for name in ("gain", "low", "high")}


def heading(figures: dict[str, Any]) -> str:
    """The notebook that settled figures belong to, and the variant of it, if it is one."""
    return ", ".join([figures["slug"], *(f"{key}={value}" for key, value in figures["parameters"].items())])


def _as_gain(claim: dict[str, Any], gain: float | None) -> str:
    return as_gain(gain, claim["unit"], claim.get("absolute", False))  # figures settled before there were absolute gains do not say


def _range(claim: dict[str, Any]) -> str:
    """Gains of the runs, from the lowest to the highest; a run whose baseline may be zero has none."""
    known = [gain for gain in claim["gains"] if gain is not None]
    return f"{_as_gain(claim, min(known))} to {_as_gain(claim, max(known))}" if known else "none"


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
        settings = "".join(f" --set {key}={value}" for key, value in variant.items())
        print(f"There are no settled figures of this variant yet; facelab settle {slug}{settings} makes them.")
        return None
    known = {claim["name"]: claim for claim in settled["claims"]}
    rows = [{"claim": c.statement, "gain here": as_gain(c.gain, c.unit, c.absolute)} | _beside(known.get(c.name)) for c in claims]
    return pd.DataFrame(rows).style.hide(axis="index").set_properties(**{"text-align": "left", "white-space": "normal"})


def _beside(claim: dict[str, Any] | None) -> dict[str, str]:
    """What is settled of a claim; a claim may be newer than the figures."""
    if claim is None:
        return dict.fromkeys(("gains of all runs", "pooled, 95 % interval", "met in", "verdict"), "not settled yet")
    return {
        "gains of all runs": _range(claim),
        "pooled, 95 % interval": f"{_as_gain(claim, claim['gain'])} ({_as_gain(claim, claim['low'])} to {_as_gain(claim, claim['high'])})",
        "met in": f"{claim['met']} of {len(claim['gains'])}",
        "verdict": verdict(claim),
    }


def tables(notebooks: list[Notebook], root: Path = PACKAGE.parent, folder: Path = FOLDER) -> dict[Path, str]:
    """README.md with one row per notebook, and docs/scoreboard.md with all settled claims: path -> text.

    Raises:
        ValueError: README.md lacks the marks between which its table stands, or nothing is settled yet.
    """
    readme = (root / "README.md").read_text(encoding="utf-8")
    if not all(mark in readme for mark in MARKS):
        raise ValueError(f"README.md lacks the marks of the scoreboard; put {MARKS[0]!r} and {MARKS[1]!r} where the table belongs.")
    found = [(notebook, figures) for notebook in notebooks for figures in load_all(notebook.slug, folder)]
    if not found:
        raise ValueError("There are no settled figures yet; facelab settle --all makes them.")
    before, after = readme.split(MARKS[0])[0], readme.split(MARKS[1])[1]
    rows = markdown_table([_summary(notebook, figures, root) for notebook, figures in found])
    board = [
        "# Scoreboard",
        "Every claim of the course, as settled: pooled over several seeds and over several arithmetics of the same processor. Written by "
        "`facelab scoreboard --readme` from `data/settled`, never by hand. A claim *holds* if it is judged in the notebook and was "
        "met in every run. What is *shown* or *open* is measured with the same care and not promised. *Against* means that the "
        "whole interval lies on the wrong side of zero.",
    ]
    for notebook, figures in found:
        board += [f"## {heading(figures)}"]
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
