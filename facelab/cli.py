"""The `facelab` command: list, run and check the notebooks, open them, find the data, print the scoreboard."""

import json
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console, Group
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from facelab import pages
from facelab.claims import Claim
from facelab.course import gallery, running, settling
from facelab.course import scoreboard as scoreboard_of
from facelab.course.lab import serve

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help="The course on the command line.")
data_app = typer.Typer(no_args_is_help=True, help="Real data sets: where they are, where they come from.")
app.add_typer(data_app, name="data")

console = Console()
messages = Console(stderr=True)

AsJson = Annotated[bool, typer.Option("--json", help="For programs instead of people.")]
Folder = Annotated[Path, typer.Option("--notebooks", help="Folder of the notebooks.", hidden=True)]
Slugs = Annotated[list[str] | None, typer.Argument(help="Names of notebooks, as `facelab list` shows them.", show_default=False)]
Jobs = Annotated[int, typer.Option(min=1, help="Notebooks at a time, each in its own process.")]
Part = Annotated[str | None, typer.Option(help="All notebooks of this part: its number or its folder.")]
Output = Annotated[Path, typer.Option(help="Folder of the executed copies.")]


@app.command("list")
def list_notebooks(as_json: AsJson = False, notebooks: Folder = running.NOTEBOOKS) -> None:
    """Every notebook of the course."""
    found = running.discover(notebooks)
    if as_json:
        rows = [asdict(notebook) | {"path": str(notebook.path), "minutes": round(notebook.seconds / 60, 2)} for notebook in found]
        print(json.dumps(rows, indent=2))
        return
    table = _table("number", "slug", "title", "minutes")
    for n in found:  # one line each: only the title may give way
        table.add_row(n.number, f"[bold]{n.slug}[/]", Text(n.title, no_wrap=True, overflow="ellipsis"), f"{n.seconds / 60:.1f}")
    for column in table.columns:
        column.no_wrap = column.header != "title"
    console.print(table)


@app.command()
def run(
    slugs: Slugs = None,
    part: Part = None,
    everything: Annotated[bool, typer.Option("--all", help="All notebooks.")] = False,
    preset: Annotated[str | None, typer.Option(help="quick (a minute on two cores) or full.")] = None,
    seed: Annotated[int | None, typer.Option(help="Another seed.")] = None,
    settings: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Any parameter of the notebook.")] = None,
    jobs: Jobs = 1,
    with_pages: Annotated[bool, typer.Option("--pages", help="Keep a page of each explorer in the copies, for `facelab site`.")] = False,
    output: Output = running.OUTPUT,
    as_json: AsJson = False,
    notebooks: Folder = running.NOTEBOOKS,
) -> None:
    """Executes notebooks, shows their claims, keeps the executed copies; exits 1 if a cell fails or a claim is not met."""
    chosen = _choose(slugs, part, everything, running.discover(notebooks))
    texts = _pairs(settings or [])
    if preset is not None:
        if preset not in ("quick", "full"):
            raise ValueError(f"preset {preset!r} is not known; use quick or full.")
        texts["preset"] = preset
    if seed is not None:
        texts["seed"] = str(seed)
    # --all and --part reach notebooks without parameters too; those simply have no preset or seed to change.
    own = [{k: v for k, v in texts.items() if slugs or k in n.parameters or k not in ("preset", "seed")} for n in chosen]
    extra = {pages.WANTED: "1"} if with_pages else {}
    tasks = [running.Task(n, running.typed_parameters(n, mine), output, extra) for n, mine in zip(chosen, own, strict=True)]
    runs = _run_shown(tasks, jobs=jobs)
    if as_json:
        print(json.dumps([result.summary() for result in runs], indent=2))
    else:
        for result in runs:
            _report(result)
    if not all(result.passed for result in runs):
        raise typer.Exit(1)


@app.command()
def sabotage(
    slugs: Slugs = None,
    everything: Annotated[bool, typer.Option("--all", help="All notebooks that name sabotages.")] = False,
    settings: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Any parameter of the notebook.")] = None,
    jobs: Jobs = 1,
    as_json: AsJson = False,
    notebooks: Folder = running.NOTEBOOKS,
) -> None:
    """Breaks each notebook in every way it names and reports which checks notice; exits 1 if one goes unnoticed.

    Each notebook is run untouched as well: where that run fails already, a failure under sabotage says nothing.
    """
    found = running.discover(notebooks)
    chosen = [n for n in found if n.sabotages] if everything else _choose(slugs, None, False, found)
    for notebook in chosen:
        if len(notebook.sabotages) < notebook.sabotages_needed:
            raise ValueError(
                f"The notebook {notebook.slug} names {len(notebook.sabotages)} sabotages; at least {notebook.sabotages_needed} are needed."
            )
    texts = _pairs(settings or [])
    asked = [(n, running.typed_parameters(n, texts | {"sabotage": name})) for n in chosen for name in ("", *n.sabotages)]
    if not asked:
        messages.print("No notebook names a sabotage; there is nothing to check.")
        return
    with tempfile.TemporaryDirectory() as folder:
        runs = _run_shown([running.Task(n, parameters, Path(folder)) for n, parameters in asked], jobs=jobs)
    untouched = {result.notebook.slug: result for result in runs if not result.parameters.get("sabotage")}
    rows = [_sabotage_row(result, untouched[result.notebook.slug]) for result in runs if result.parameters.get("sabotage")]
    for slug, result in untouched.items():
        if not result.passed:
            why = result.error or f"claims not met: {', '.join(result.unmet)}"
            messages.print(f"{slug} fails without any sabotage, so none counts as caught. {why}", markup=False, soft_wrap=True)
    if as_json:
        print(json.dumps(rows, indent=2))
    else:
        table = _table("notebook", "sabotage", "caught", "by")
        for row in rows:
            caught = "[bold blue]yes[/]" if row["caught"] else "[bold yellow]NO[/]"
            table.add_row(row["notebook"], row["sabotage"], caught, escape(", ".join(row["claims"]) or row["error"]))
        console.print(table)
    if not all(row["caught"] for row in rows):
        raise typer.Exit(1)


@app.command(context_settings={"ignore_unknown_options": True})
def lab(
    arguments: Annotated[list[str] | None, typer.Argument(help="Passed on to JupyterLab.")] = None,
    notebooks: Folder = running.NOTEBOOKS,
) -> None:
    """Opens JupyterLab on the start notebook."""
    start = notebooks.resolve() / "00_start_here.ipynb"
    if not start.exists():
        raise ValueError(f"The start notebook is not at {start}; run facelab from its checkout.")
    # The checkout is the root, so that links between notebooks and to the pictures of the README work.
    serve(start, root=start.parent.parent, arguments=arguments or [])


@app.command()
def settle(
    slugs: Slugs = None,
    part: Part = None,
    everything: Annotated[bool, typer.Option("--all", help="All notebooks.")] = False,
    seeds: Annotated[int, typer.Option(min=2, help="Seeds of each notebook, from 0.")] = 5,
    settings: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Settle a variant of the notebook.")] = None,
    jobs: Jobs = 2,
    notebooks: Folder = running.NOTEBOOKS,
    work: Annotated[Path, typer.Option(help="Folder of the single runs.", hidden=True)] = settling.WORK,
    folder: Annotated[Path, typer.Option(help="Folder of the settled figures.", hidden=True)] = settling.FOLDER,
) -> None:
    """Runs notebooks with several seeds and arithmetics and writes their settled figures; goes on where it was stopped.

    Exits 1 if a run breaks off, or if a claim is judged that the runs do not settle.
    """
    chosen = _choose(slugs, part, everything, running.discover(notebooks))
    texts = _pairs(settings or [])
    settled, broken = [], {}
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[of]}"), TimeElapsedColumn())
    with Progress(*columns, console=messages) as bars:
        shown: dict[str, Any] = {}

        def begun(tasks: list[running.Task], missing: list[running.Task]) -> None:
            if "all" not in shown:
                shown["all"] = bars.add_task("all runs", total=0, of="runs")
            whole = bars.tasks[shown["all"]]
            bars.update(shown["all"], total=whole.total + len(tasks), completed=whole.completed + len(tasks) - len(missing))

        def progress(task: running.Task, done: int, cells: int) -> None:
            name = f"{task.notebook.slug} {task.output.name}"
            if name not in shown:
                shown[name] = bars.add_task(name, of="cells")
            bars.update(shown[name], completed=done, total=cells)
            if done == cells:
                bars.update(shown.pop(name), visible=False)
                bars.advance(shown["all"])

        for group, parameters in _variants(chosen, texts, folder):
            broken |= settling.settle(
                group, seeds=seeds, jobs=jobs, parameters=parameters, work=work, folder=folder, progress=progress, begun=begun
            )
            settled += [f for n in group if n.slug not in broken and (f := settling.load(n.slug, parameters, folder))]
    for figures in settled:
        _report_settled(figures)
    for slug, sentences in broken.items():
        messages.print(f"{slug} is not settled: {' '.join(sentences)}", style="bold", markup=False, highlight=False, soft_wrap=True)
    unsettled = [c for figures in settled for c in figures["claims"] if not c["indicative"] and not settling.may_be_judged(c)]
    if broken or unsettled:
        raise typer.Exit(1)


@app.command()
def compress(
    network: Annotated[str, typer.Argument(metavar="MODEL.py:build", help="Function that returns your torch.nn.Module.")],
    data: Annotated[str, typer.Option(metavar="DATA.py:loaders", help="Function that returns (training, evaluation[, score]).")],
    method: Annotated[
        str, typer.Option(help="singe, red, redpp, archtree, powerquant, ternary, jlcm; or l1, fpgm, taylor of torch-pruning.")
    ],
    out: Annotated[Path, typer.Option(help="File of the small network, .safetensors; a table and a page lie beside it.")],
    strength: Annotated[float | None, typer.Option(help="How much goes, as the method means it.")] = None,
    against: Annotated[str, typer.Option(help="Methods to measure beside it, with commas; or none.")] = "l1,fpgm,taylor",
    steps: Annotated[int, typer.Option(min=0, help="Steps of fine-tuning.")] = 150,
    seed: int = 0,
    force: Annotated[bool, typer.Option("--force", help="Overwrite what is there.")] = False,
    as_json: AsJson = False,
) -> None:
    """Makes a network of yours smaller, and shows what that costs; goes on where it was stopped."""
    from facelab import yours
    from facelab.compression import command, report

    command.files_of(out)  # before anything takes time
    model, loaders = yours.load_network(network), yours.load_data(data)
    scores = yours.fit_together(model, loaders)
    others = [] if against == "none" else [name.strip() for name in against.split(",") if name.strip() != method]
    with Progress(TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), console=messages) as bars:
        bar = bars.add_task(method, total=None)
        found = command.run(
            model, loaders.training, loaders.evaluation, scores, method, out, strength=strength, against=others, steps=steps, seed=seed,
            force=force, progress=lambda what, done, of: bars.update(bar, description=what, completed=done, total=of),
        )  # fmt: skip
    for sentence in found.refused:
        messages.print(sentence, markup=False, highlight=False, soft_wrap=True)
    if not loaders.separate:
        messages.print("There is one loader: what was fine-tuned was measured on the same samples.", soft_wrap=True)
    if as_json:
        print(found.table.to_json(orient="records", indent=2))
    else:
        rows = report.shown(found.table)
        table = _table(*rows.columns)
        for row in rows.itertuples(index=False):
            table.add_row(*(escape(str(value)) for value in row))
        console.print(table)
        console.print(", ".join(map(str, found.files)), highlight=False, markup=False, soft_wrap=True)


@app.command()
def scoreboard(
    source: Annotated[Path | None, typer.Option("--from", help="Folder of executed copies, in place of the settled figures.")] = None,
    as_json: AsJson = False,
    readme: Annotated[bool, typer.Option("--readme", help="Write the tables of README.md and docs/scoreboard.md.")] = False,
    notebooks: Folder = running.NOTEBOOKS,
) -> None:
    """The table of all claims: the settled figures, or those of single runs."""
    if source is not None:
        rows = running.scoreboard(source)
        texts = [{"notebook": row["notebook"], "with": row["with"]} | Claim.from_stored(row).row() for row in rows]
    else:
        found = [figures for n in running.discover(notebooks) for figures in settling.load_all(n.slug)]
        rows = [{"notebook": figures["slug"], "with": figures["parameters"]} | claim for figures in found for claim in figures["claims"]]
        texts = [{"notebook": row["notebook"], "with": _variant(row["with"])} | scoreboard_of.row(row) for row in rows]
    if not rows:
        raise ValueError("There are no settled figures yet; facelab settle --all makes them.")
    if as_json:
        print(json.dumps([{key: value for key, value in row.items() if key != "scores"} for row in rows], indent=2))
    elif readme:
        for path, text in scoreboard_of.tables(running.discover(notebooks)).items():
            path.write_text(text, encoding="utf-8")
            console.print(str(path), soft_wrap=True)
    else:
        console.print(_claims_table(texts))


@app.command()
def student(
    slug: Annotated[str, typer.Argument(help="Name of the notebook.")],
    output: Annotated[Path, typer.Option(help="Folder of student copies.")] = Path("build") / "student",
    notebooks: Folder = running.NOTEBOOKS,
) -> None:
    """Writes a copy without the solutions, to hand out."""
    import nbformat

    (notebook,) = running.find([slug], running.discover(notebooks))
    output.mkdir(parents=True, exist_ok=True)
    nbformat.write(running.student_copy(notebook), output / notebook.path.name)
    console.print(str(output / notebook.path.name), soft_wrap=True)


@app.command()
def pictures(
    slugs: Slugs = None,
    everything: Annotated[bool, typer.Option("--all", help="All notebooks.")] = False,
    source: Annotated[Path, typer.Option("--from", help="Folder of executed copies.")] = running.OUTPUT,
    readme: Annotated[bool, typer.Option("--readme", help="Write the gallery of README.md, of the pictures that there are.")] = False,
    notebooks: Folder = running.NOTEBOOKS,
) -> None:
    """Writes the result picture of notebooks, docs/pictures/SLUG.webp, from their executed copies."""
    found = running.discover(notebooks)
    if slugs or everything or not readme:
        for notebook in _choose(slugs, None, everything, found):
            console.print(str(gallery.write_picture(notebook, source)), soft_wrap=True)
    if readme:
        path = gallery.PICTURES.parents[1] / "README.md"
        path.write_text(gallery.readme(found), encoding="utf-8")
        console.print(str(path), soft_wrap=True)


@app.command()
def site(
    output: Annotated[Path, typer.Option(help="Folder of the pages.")] = Path("build") / "site",
    source: Annotated[Path, typer.Option("--from", help="Folder of executed copies.")] = running.OUTPUT,
    as_they_are: Annotated[bool, typer.Option("--as-they-are", help="Run nothing, take the executed copies there are.")] = False,
    jobs: Jobs = 1,
    notebooks: Folder = running.NOTEBOOKS,
) -> None:
    """Writes the course as pages to read without Python; first runs the notebooks that lack an up-to-date executed copy."""
    from facelab.course import site as site_of

    found = running.discover(notebooks)
    tasks = [running.Task(n, {}, source, {pages.WANTED: "1"}) for n in found if not as_they_are and site_of.state(n, source)]
    if tasks:
        _run_shown(tasks, jobs=jobs)
    made = site_of.build(found, source, output)
    for slug, why in made.missing.items():
        messages.print(f"{slug} {why}.", markup=False, highlight=False, soft_wrap=True)
    console.print(f"{len(made.lessons)} notebooks, {made.size / 1e6:.0f} MB: {made.start}", highlight=False, markup=False, soft_wrap=True)
    if made.missing and not as_they_are:
        raise typer.Exit(1)


@app.command(hidden=True)
def strip(
    check: Annotated[bool, typer.Option("--check", help="Only say which notebooks hold outputs; exit 1 if any.")] = False,
    notebooks: Folder = running.NOTEBOOKS,
) -> None:
    """Takes outputs and other traces of runs out of the notebooks, before they are committed."""
    import nbformat

    touched = 0
    for path in sorted(notebooks.rglob("*.ipynb")):
        if ".ipynb_checkpoints" in path.parts:
            continue
        content = nbformat.read(path, as_version=4)
        if running.strip(content):
            touched += 1
            console.print(f"{'holds outputs' if check else 'stripped'}: {path.name}")
            if not check:
                nbformat.write(content, path)
    if check and touched:
        raise typer.Exit(1)


@data_app.command("list")
def data_list(as_json: AsJson = False) -> None:
    """Every data set of the catalogue and where it lies, if it does."""
    from facelab.datasets import catalogue

    rows = []
    for name, entry in catalogue.entries().items():
        try:
            where = str(catalogue.path(name))
        except FileNotFoundError:
            where = ""
        rows.append({"name": name, "path": where} | dict(entry))
    if as_json:
        print(json.dumps(rows, indent=2, default=str))
        return
    table = _table("name", "what", "licence", "here")
    for row in rows:
        what = str(row.get("title") or row.get("what") or "")
        table.add_row(row["name"], escape(what), escape(str(row.get("licence", ""))), escape(row["path"]) or "no")
    console.print(table)


@data_app.command("path")
def data_path(name: str) -> None:
    """Prints the folder of a data set; exits 1 with directions if it is not on this machine."""
    from facelab.datasets import catalogue

    print(catalogue.path(name))


@data_app.command("fetch")
def data_fetch(name: str) -> None:
    """Downloads a data set into the user's cache, checks it, and prints its folder."""
    from facelab.datasets import catalogue

    print(catalogue.fetch(name))


def main() -> None:
    """The command line; what a person did wrong is one sentence, not a traceback."""
    try:
        app()
    except (ValueError, OSError) as error:  # OSError: no such file, no network, a set handed out on request only
        messages.print(str(error), style="bold", highlight=False, markup=False, soft_wrap=True)
        sys.exit(2)
    except KeyboardInterrupt:
        messages.print("Stopped. Finished copies are kept.")
        sys.exit(130)


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def _claims_table(rows: list[dict[str, str]]) -> Table | Group:
    """A row per claim; where the terminal is too narrow for the figures beside a readable statement, a paragraph per claim."""
    figures = [name for name in rows[0] if name != "claim"]
    if (
        sum(2 + max(len(str(row[name])) for row in [dict(zip(figures, figures, strict=True)), *rows]) for name in figures) + 30
        > console.width
    ):
        told = [", ".join(f"[dim]{escape(name)}[/] {escape(row[name])}" for name in figures if row[name]) for row in rows]
        return Group(*(Text.from_markup(f"[bold]{escape(row['claim'])}[/]\n{text}\n") for row, text in zip(rows, told, strict=True)))
    table = _table(*rows[0])
    for row in rows:
        table.add_row(*(escape(value) for value in row.values()))
    return table


def _choose(slugs: list[str] | None, part: str | None, everything: bool, found: list[running.Notebook]) -> list[running.Notebook]:
    if sum((bool(slugs), part is not None, everything)) != 1:
        raise ValueError("Say which notebooks: either names, or --part P, or --all.")
    if slugs:
        return running.find(slugs, found)
    chosen = [notebook for notebook in found if everything or part in (str(notebook.part), notebook.path.parent.name)]
    if not chosen:
        raise ValueError(f"There is no notebook in part {part}; there are parts {', '.join(map(str, sorted({n.part for n in found})))}.")
    return chosen


def _pairs(settings: list[str]) -> dict[str, str]:
    for setting in settings:
        if "=" not in setting:
            raise ValueError(f"--set {setting!r} is not KEY=VALUE, such as --set seed=1.")
    return dict(setting.split("=", 1) for setting in settings)


def _run_shown(tasks: list[running.Task], *, jobs: int) -> list[running.Run]:
    """Runs with one progress bar per notebook, on stderr."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("cells"), TimeElapsedColumn())
    with Progress(*columns, console=messages) as bars:
        names = [" ".join([t.notebook.slug, *(f"{key}={value}" for key, value in t.parameters.items())]) for t in tasks]
        rows = [bars.add_task(name, total=None, start=False) for name in names]

        def progress(task: int, done: int, cells: int) -> None:
            if not bars.tasks[task].started:
                bars.start_task(rows[task])
            bars.update(rows[task], completed=done, total=cells)

        return running.run_all(tasks, jobs=jobs, progress=progress)


def _report(result: running.Run) -> None:
    console.rule(f"[bold]{result.notebook.slug}[/] {escape(str(result.parameters or ''))}", align="left", style="dim")
    if result.claims:
        console.print(_claims_table([Claim.from_stored(claim).row() for claim in result.claims]))
    for name, value in result.metrics.items():
        console.print(f"{name} = {value:.6g}", highlight=False)
    if result.error:
        console.print(f"[bold red]A cell failed.[/] {escape(result.error)}", soft_wrap=True)
    cost = f"{result.seconds:.0f} s, {result.processor_seconds:.0f} s of processor, {result.memory_mb:.0f} MB"
    console.print(f"{cost}, executed copy: {escape(str(result.copy))}", highlight=False, soft_wrap=True)


def _variants(chosen: list[running.Notebook], texts: dict[str, str], folder: Path) -> list[tuple[list[running.Notebook], dict[str, Any]]]:
    """What to settle: the notebooks as they are, and again every variant that is settled already; or, with settings, that variant alone."""
    if texts:
        typed = [(n, running.typed_parameters(n, texts)) for n in chosen]
        return [([n], {key: value for key, value in own.items() if value != n.parameters[key]}) for n, own in typed]
    known = [([n], figures["parameters"]) for n in chosen for figures in settling.load_all(n.slug, folder) if figures["parameters"]]
    return [(chosen, {}), *known]


def _variant(parameters: dict[str, Any]) -> str:
    return ", ".join(f"{key}={value}" for key, value in parameters.items())


def _report_settled(figures: dict[str, Any]) -> None:
    runs = figures["runs"]
    console.rule(f"[bold]{figures['slug']}[/] {escape(_variant(figures['parameters']))}", align="left", style="dim")
    if figures["claims"]:
        console.print(_claims_table([scoreboard_of.row(claim) for claim in figures["claims"]]))
    for name, (low, high) in settling.metric_ranges(figures).items():
        console.print(f"{name}: {low:.6g} to {high:.6g}", highlight=False)
    seconds = [run["processor_seconds"] for run in runs]
    console.print(f"{len(runs)} runs, {min(seconds):.0f} to {max(seconds):.0f} s of processor each", highlight=False)


def _sabotage_row(result: running.Run, untouched: running.Run) -> dict[str, Any]:
    """A sabotage is caught by a claim not met or by a check that fails, where the untouched notebook passes and none merely breaks."""
    return {
        "notebook": result.notebook.slug,
        "sabotage": result.parameters["sabotage"],
        "caught": untouched.passed and not result.passed and not result.broken,
        "claims": result.unmet,
        "error": result.error,
        "seconds": round(result.seconds, 1),
    }


if __name__ == "__main__":
    main()
