"""Settled figures of small notebooks: which runs are made, how they are pooled, what a killed one costs, what may be judged."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import numpy as np
import pytest
from nbformat.v4 import new_code_cell, new_notebook
from rich.console import Console

from facelab import claims, cli, metrics
from facelab.course import running, scoreboard, settling
from facelab.course.fingerprints import ARITHMETICS, arithmetic, fingerprint
from facelab.statistics import gain_interval

PARAMETERS = 'preset = "quick"\nseed = 0\ndevice = "auto"\nsabotage = ""\nsource = "world"'
MEASURE = """import os, time
import numpy as np
from facelab import claims
time.sleep({pause})
shaken, avx2 = "FACELAB_SHAKE" in os.environ, os.environ.get("ATEN_CPU_CAPABILITY") == "avx2"
rng = np.random.default_rng([seed, shaken, avx2])
baseline = rng.gamma(4, 2, 50)
luck = rng.normal({gain}, {chance})
scores = dict(ours=baseline * (1 - luck), baseline=baseline, better="lower")
better = claims.claim("Ours is better", **scores, name="better", indicative={indicative})
claims.record(luck=luck, shaken=shaken, avx2=avx2)"""


def write(folder: Path, *, pause=0.0, gain=0.3, chance=0.01, indicative=False, parameters=PARAMETERS, slug="toy", more=""):
    cells = [new_code_cell(parameters, metadata={"tags": ["parameters"]})] if parameters else []
    source = MEASURE.format(pause=pause, gain=gain, chance=chance, indicative=indicative) + more
    cells.append(new_code_cell(source if parameters else f"seed = 0\n{source}"))
    about = dict(slug=slug, part=1, number="11", title="Toy", paper="", seconds=5, memory_mb=300, sabotages=[])
    path = folder / "1_alignment" / f"11_{slug}.ipynb"
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(new_notebook(cells=cells, metadata={"facelab": about}), path)
    return running.read(path)


HERE = {"processor": "toy", "instructions": "none", "versions": {}, "checksum": "0"}


@pytest.fixture(scope="module", autouse=True)
def quick_arithmetic():
    """A checksum costs a small training each; one test below asks for the real one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(settling, "arithmetic", lambda environment: HERE)
        yield


@pytest.fixture(scope="module")
def settled(tmp_path_factory):
    """A notebook settled with three seeds, and what was run for it."""
    folder = tmp_path_factory.mktemp("settled")
    notebook = write(folder)
    places = dict(work=folder / "work", folder=folder / "figures")
    seen = []
    assert settling.settle([notebook], seeds=3, jobs=2, begun=lambda tasks, missing: seen.append(len(missing)), **places) == {}
    return notebook, places, settling.load("toy", folder=places["folder"]), seen


def test_every_seed_is_run_and_seed_0_as_on_other_machines(settled):
    _, places, figures, seen = settled
    assert seen == [5]
    assert [(run["seed"], run["arithmetic"]) for run in figures["runs"]] == [
        (0, "native"),
        (1, "native"),
        (2, "native"),
        (0, "avx2"),
        (0, "shaken"),
    ]
    for run in figures["runs"]:
        assert run["processor"] == "toy" and run["checksum"] == "0"
        assert run["processor_seconds"] > 0 and run["memory_mb"] > 0
        assert (run["metrics"]["shaken"], run["metrics"]["avx2"]) == (run["arithmetic"] == "shaken", run["arithmetic"] == "avx2")
        kept = json.loads((places["work"] / "toy" / f"{run['arithmetic']}-{run['seed']}" / "run.json").read_text())
        assert kept["claims"][0]["scores"]["ours"]["shape"] == [50]


def test_gains_ranges_and_the_pooled_interval(settled):
    *_, figures, _ = settled
    (claim,) = figures["claims"]
    luck = [run["metrics"]["luck"] for run in figures["runs"]]
    np.testing.assert_allclose(claim["gains"], luck, rtol=1e-5)
    assert settling.metric_ranges(figures)["luck"] == (min(luck), max(luck))
    of_seeds = [np.mean([luck[0], *luck[3:]]), *luck[1:3]]
    assert claim["spread"] == pytest.approx(max(np.std(luck, ddof=1), np.std(of_seeds, ddof=1)), rel=1e-4)
    assert claim["met"] == 5
    assert claim["low"] < min(luck) < max(luck) < claim["high"]  # five runs say less than their extremes
    assert settling.may_be_judged(claim)
    assert scoreboard.verdict(claim) == "holds"
    assert scoreboard.verdict(claim | {"indicative": True}) == "shown, held in every run"
    assert scoreboard.verdict(claim | {"met": 4}) == "not settled"
    assert scoreboard.verdict(claim | {"met": 4, "indicative": True}) == "open"
    assert scoreboard.verdict(claim | {"high": -0.1}) == "against"
    assert scoreboard.verdict(claim | {"high": -0.1, "margin": -0.2}) == "holds"


def test_a_gain_that_some_runs_lack_is_pooled_and_shown(monkeypatch):
    def run(seed, baseline, indicative=True):
        kept = []
        monkeypatch.setattr(claims, "_show", kept.append)
        options = dict(better="higher", name="n", indicative=indicative)
        claims.claim("More", ours=[60.0, 50.0, 70.0, 50.0], baseline=baseline, **options)
        return {"seed": seed, "metrics": {}, "claims": [json.loads(json.dumps(kept[0][claims.CLAIM_TYPE]))]}

    near_zero, clear = [20.0, 0.0, 10.0, 0.0], [20.0, 21.0, 19.0, 20.0]
    for first, gain in ((clear, "known"), (near_zero, None)):
        figures = settling.pooled("toy", {}, "", [run(0, near_zero), run(1, first)])
        (claim,) = json.loads(json.dumps(figures, allow_nan=False))["claims"]
        assert claim["gains"][0] is None and (claim["gains"][1] is None) == (gain is None) == (claim["gain"] is None)
        assert scoreboard.verdict(claim) == "open" and not settling.may_be_judged(claim)
        assert ("none" in scoreboard.row(claim)["pooled gain"]) == (gain is None)
        assert scoreboard.row(claim)["gains of the runs"] == ("none" if gain is None else "+187.5% to +187.5%")


def runs_of_sets(monkeypatch, seeds, samples=(40, 40, 40), own_seeds=0, **options):
    """Runs whose claim is of an mIoU of three classes, and the parts of each: (runs, ours and baseline)."""
    runs, parts = [], []
    for run, seed in enumerate(seeds):
        rng, kept = np.random.default_rng([run, seed]), []
        union = rng.integers(20, 60, (*([own_seeds] if own_seeds else []), samples[run], 3))
        pair = [np.stack([np.round(union * level * rng.uniform(0.9, 1)), union], axis=-1) for level in (0.9, 0.7)]
        monkeypatch.setattr(claims, "_show", kept.append)
        about = dict(better="higher", name="miou", statistic=metrics.mean_iou) | options
        claims.claim("Better", ours=pair[0], baseline=pair[1], **about)
        runs.append({"seed": seed, "metrics": {}, "claims": [json.loads(json.dumps(kept[0][claims.CLAIM_TYPE]))]})
        parts.append(pair)
    return runs, parts


@pytest.mark.parametrize("own_seeds", [0, 2])
def test_statistics_of_sets_are_pooled_again_over_runs(monkeypatch, own_seeds):
    runs, parts = runs_of_sets(monkeypatch, [0, 1, 0], own_seeds=own_seeds, gain="absolute", margin=0.05, unit="IoU")
    (claim,) = settling.pooled("toy", {}, "", runs)["claims"]
    values = np.array([[metrics.mean_iou(part).mean() for part in pair] for pair in parts])
    of_seeds = np.stack([values[[0, 2]].mean(axis=0), values[1]])
    np.testing.assert_allclose([claim["ours"], claim["baseline"]], of_seeds.mean(axis=0))
    assert claim["gain"] == pytest.approx(claim["ours"] - claim["baseline"])
    rows = [np.concatenate([pair[side].reshape(-1, 40, 3, 2) for pair in parts]) for side in (0, 1)]
    labels = np.repeat([0, 1, 0], max(own_seeds, 1)).tolist()
    options = dict(better="higher", statistic=metrics.mean_iou, absolute=True)
    assert (claim["gain"], claim["low"], claim["high"]) == gain_interval(*rows, labels=labels, **options)
    assert (claim["absolute"], claim["statistic"]) == (True, "facelab.metrics.mean_iou")
    assert scoreboard.row(claim)["pooled gain"] == f"{claim['gain']:+.3g} IoU"
    assert scoreboard.row(claim)["must exceed"] == "0.05 IoU" and scoreboard.row(claim)["gains of the runs"].count("IoU") == 2
    assert scoreboard._beside(claim)["pooled, 95 % interval"].count("IoU") == 3


def test_statistics_of_runs_without_samples_in_common_are_pooled_by_themselves(monkeypatch):
    runs, parts = runs_of_sets(monkeypatch, [0, 1, 2], samples=(40, 30, 40))
    (claim,) = settling.pooled("toy", {}, "", runs)["claims"]
    values = np.array([[metrics.mean_iou(part) for part in pair] for pair in parts]).T[..., None]
    np.testing.assert_allclose([claim["gain"], claim["low"], claim["high"]], gain_interval(*values, better="higher"))


def test_only_statistics_of_the_package_are_settled(monkeypatch):
    runs, _ = runs_of_sets(monkeypatch, [0, 1], statistic=lambda parts: metrics.mean_iou(parts))
    with pytest.raises(ValueError, match=r"claim 'miou' is of the statistic .*lambda.*move it to facelab.metrics"):
        settling.pooled("toy", {}, "", runs)


def test_nothing_is_run_again_until_something_changes(settled, tmp_path):
    notebook, places, _, _ = settled
    shutil.copytree(places["folder"].parent, tmp_path / "copy")
    places, seen = {key: tmp_path / "copy" / place.name for key, place in places.items()}, []
    options = dict(seeds=3, begun=lambda tasks, missing: seen.append(len(missing)))
    settling.settle([notebook], **options, **places)
    settling.settle([notebook], **options, work=tmp_path / "gone", folder=places["folder"])  # the figures are enough
    assert seen == [0, 0]
    settling.settle([notebook], **options | {"seeds": 4}, **places)
    settling.settle([notebook], **options, **places)  # fewer seeds than there are take nothing away
    assert seen == [0, 0, 1, 0]
    assert len(settling.load("toy", folder=places["folder"])["runs"]) == 6


def test_a_change_of_words_settles_nothing_anew_and_one_of_code_does(tmp_path):
    before = fingerprint(write(tmp_path).path)
    assert fingerprint(write(tmp_path, more="  # a comment").path) == before
    assert fingerprint(write(tmp_path, chance=0.02).path) != before
    assert fingerprint(write(tmp_path, more="\nfrom facelab.pictures import plot_bars").path) != before  # a cell of its own counts


def test_the_fingerprint_reaches_modules_through_modules(monkeypatch, tmp_path):
    from facelab.course import fingerprints

    reached = {
        path.relative_to(fingerprints.PACKAGE).as_posix() for path in fingerprints._reached(["from facelab import recipes, pictures"])
    }
    assert {"zoo.py", "training.py", "methods/decafa.py", "blocks/unet.py", "worlds/faces/rendering.py"} <= reached
    assert not any(path.startswith(("pictures", "explorers")) for path in reached)


def test_runs_of_one_seed_are_one_row_of_the_pooled_interval():
    scores = [np.full(4, 1.0), np.full(4, 3.0), np.full(4, 2.0)]
    np.testing.assert_allclose(settling._matrix(scores, [0, 1, 0]), [[1.5] * 4, [3.0] * 4])
    np.testing.assert_allclose(
        settling._matrix([*scores[:2], np.full((2, 5), 4.0)], [0, 1, 2]), [[1.0], [3.0], [4.0]]
    )  # other numbers of samples
    np.testing.assert_allclose(settling._matrix(scores, [0, 0, 0]), [2.0] * 4)


@pytest.mark.parametrize(
    ("gains", "met", "judged"),
    [([0.30, 0.31, 0.32], 3, True), ([0.30, 0.31, 0.32], 2, False), ([0.11, 0.30, 0.40], 3, False), ([0.13, 0.14, 0.15], 3, True)],
)
def test_what_may_be_judged_clears_the_margin_by_the_spread(gains, met, judged):
    claim = {"gains": gains, "met": met, "spread": float(np.std(gains, ddof=1)), "margin": 0.1}
    assert settling.may_be_judged(claim) is judged


def test_a_variant_has_figures_of_its_own(tmp_path):
    notebook = write(tmp_path)
    places = dict(work=tmp_path / "work", folder=tmp_path / "figures")
    settling.settle([notebook], seeds=2, parameters={"source": "p1"}, **places)
    assert settling.load("toy", folder=places["folder"]) is None
    figures = settling.load("toy", {"source": "p1"}, places["folder"])
    assert figures["parameters"] == {"source": "p1"}
    assert [found["parameters"] for found in settling.load_all("toy", places["folder"])] == [{"source": "p1"}]


@pytest.mark.parametrize("parameters", [{"sabotage": "worse"}, {"seed": 3}])
def test_what_is_no_variant_is_refused(tmp_path, parameters):
    with pytest.raises(ValueError, match="no variant"):
        settling.settle([write(tmp_path)], parameters=parameters, work=tmp_path, folder=tmp_path)


def test_a_change_of_code_while_it_runs_is_noticed(tmp_path):
    notebook = write(tmp_path, pause=0.5)
    places = dict(work=tmp_path / "work", folder=tmp_path / "figures")
    broken = settling.settle([notebook], seeds=2, begun=lambda tasks, missing: write(tmp_path, pause=0.5, chance=0.02), **places)
    assert all("changed meanwhile" in sentence for sentence in broken["toy"]) and len(broken["toy"]) == 4
    assert not list(tmp_path.rglob("run.json"))


def test_a_notebook_without_a_seed_is_run_once_per_arithmetic(tmp_path):
    notebook = write(tmp_path, parameters="")
    assert settling.runs_of(notebook, 5) == [(0, "native"), (0, "avx2"), (0, "shaken")]


def test_a_run_that_breaks_off_is_named_and_the_others_are_kept(tmp_path):
    notebook = write(tmp_path, more="\nassert seed != 1, 'seed 1 is unlucky'")
    places = dict(work=tmp_path / "work", folder=tmp_path / "figures")
    broken = settling.settle([notebook], seeds=2, **places)
    assert len(broken["toy"]) == 1 and "native-1: AssertionError: seed 1 is unlucky" in broken["toy"][0]
    assert settling.load("toy", folder=places["folder"]) is None
    assert len(list(places["work"].rglob("run.json"))) == 3


KILLED = """import sys
from pathlib import Path
from facelab.course import running, settling
settling.arithmetic = lambda environment: {here}
folder = Path(sys.argv[1])
settling.settle(running.discover(folder / "notebooks"), seeds=2, jobs=1, work=folder / "work", folder=folder / "figures")"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "killpg"), reason="no process groups on Windows")
def test_kill_loses_at_most_the_run_in_hand(tmp_path):
    """kill -9 while the third run is being made: the two before it are not made again."""
    write(tmp_path / "notebooks", pause=1.0)
    command = [sys.executable, "-c", KILLED.format(here=HERE), str(tmp_path)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    deadline = time.monotonic() + 120
    while len(list((tmp_path / "work").rglob("run.json"))) < 2:
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "work").rglob("run.json")}
    assert 2 <= len(kept) < 4
    subprocess.run(command, check=True)
    assert all(path.stat().st_mtime_ns == made for path, made in kept.items())
    assert len(list((tmp_path / "work").rglob("run.json"))) == len(settling.load("toy", folder=tmp_path / "figures")["runs"]) == 4


def test_the_command_fails_where_chance_decides_a_judged_claim(settled, tmp_path, monkeypatch, capsys):
    write(tmp_path / "notebooks", gain=0.05, chance=0.2)
    own = {"notebooks": tmp_path / "notebooks", "work": tmp_path / "work", "folder": tmp_path / "figures"}
    notebook, places, _, _ = settled
    for options, seeds, code, width in ((own, 2, 1, 80), (places | {"notebooks": notebook.path.parent}, 3, 0, 200)):
        monkeypatch.setattr(cli, "console", Console(width=width))
        named = [text for key, value in options.items() for text in (f"--{key}", str(value))]
        monkeypatch.setattr(sys, "argv", ["facelab", "settle", "toy", "--seeds", str(seeds), *named])
        try:
            cli.main()
            left = 0
        except SystemExit as stopped:
            left = stopped.code
        assert left == code
        assert "Ours is better" in capsys.readouterr().out


def test_another_arithmetic_gives_another_checksum():
    assert arithmetic({})["checksum"] != arithmetic(ARITHMETICS["shaken"])["checksum"]


def test_the_tables_of_readme_and_scoreboard(settled, tmp_path):
    notebook, places, _, _ = settled
    root = notebook.path.parent.parent
    first, last = scoreboard.MARKS
    (root / "README.md").write_text(f"before\n{first}\nold\n{last}\nafter\n")
    written = scoreboard.tables([notebook], root, places["folder"])
    readme, board = written[root / "README.md"], written[root / "docs" / "scoreboard.md"]
    assert readme.startswith(f"before\n{first}\n\n| notebook |") and readme.endswith(f"{last}\nafter\n") and "old" not in readme
    assert "| [toy](1_alignment/11_toy.ipynb) | 1 | " in readme
    assert "Ours is better" in board and "## toy" in board
    with pytest.raises(ValueError, match="facelab settle --all"):
        scoreboard.tables([notebook], root, tmp_path)
    (root / "README.md").write_text("no marks")
    with pytest.raises(ValueError, match="lacks the marks"):
        scoreboard.tables([notebook], root, places["folder"])
    assert scoreboard.markdown_table([{"claim": "a | b", "gain": "+5%"}]) == "| claim | gain |\n| --- | --- |\n| a \\| b | +5% |"


def test_a_notebook_shows_its_settled_figures(settled, monkeypatch, capsys):
    from facelab.claims import claim

    _, places, figures, _ = settled
    monkeypatch.setattr(scoreboard, "FOLDER", places["folder"])
    made = claim("Ours is better", ours=[1.0, 2.0], baseline=[2.0, 4.0], better="lower", name="better")
    text = scoreboard.show_settled("toy", made).to_html()
    assert "+50.0%" in text and f"{figures['claims'][0]['gain']:+.1%}" in text and "holds" in text
    renamed = claim("Ours is better", ours=[1.0, 2.0], baseline=[2.0, 4.0], better="lower", name="renamed")
    assert "not settled yet" in scoreboard.show_settled("toy", made, renamed).to_html()
    assert scoreboard.show_settled("toy", made, source="p1") is None
    assert "facelab settle toy --set source=p1 makes them" in capsys.readouterr().out
