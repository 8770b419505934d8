"""`facelab compress`: writes three files, goes on where it was stopped, overwrites nothing unasked, says what is wrong in a sentence."""

import json
from pathlib import Path

import own_networks
import pandas as pd
import pytest
import torch
from typer.testing import CliRunner

from facelab import cli
from facelab.compression import command
from facelab.compression.packing import load_packed
from facelab.importance.scores import accuracy, log_likelihood

TRAINING, TEST = own_networks.loaders()
FILE = Path(own_networks.__file__)


def run(model, out, name="l1", **options):
    return command.run(model, TRAINING, TEST, (accuracy, log_likelihood), name, out, **{"steps": 5, **options})


def typed(*arguments):
    return CliRunner().invoke(cli.app, ["compress", *map(str, arguments)], env={"COLUMNS": "200"})


def test_three_files_and_what_they_hold(tmp_path):
    model, said = own_networks.mobile(), []
    out = tmp_path / "new" / "small.safetensors"
    found = run(model, out, against=["taylor"], progress=lambda *step: said.append(step))
    assert [file.name for file in found.files] == ["small.safetensors", "small.parquet", "small.html"]
    assert [path.name for path in sorted(out.parent.iterdir())] == ["small.html", "small.parquet", "small.safetensors"]
    table = pd.read_parquet(found.files[1])
    assert list(table.network) == ["original", "batch norms folded", "L1", "Taylor"]
    assert table.bytes[2] == out.stat().st_size < table.bytes[0]
    page = found.files[2].read_text()
    assert "stem.0+project.0" in page and "Plotly" in page and 'src="http' not in page
    again = load_packed(out, own_networks.mobile)
    hits = torch.cat([(again(x).argmax(1) == y).float() for x, y in TEST])
    assert float(hits.mean()) == pytest.approx(table.score[2])
    assert [step[1] for step in said] == [0, 1, 2, 3] and said[-1][0] == "done"


def test_goes_on_where_it_was_stopped(tmp_path, monkeypatch):
    made, whole = [], command.compress

    def stopped(name, job):
        if len(made) == 1:
            raise KeyboardInterrupt
        made.append(name)
        return whole(name, job)

    monkeypatch.setattr(command, "compress", stopped)
    with pytest.raises(KeyboardInterrupt):
        run(own_networks.mobile(), tmp_path / "small.safetensors", against=["fpgm"])
    assert not (tmp_path / "small.safetensors").exists()
    with pytest.raises(ValueError, match="another strengths; --force"):
        run(own_networks.mobile(), tmp_path / "small.safetensors", against=["fpgm"], strength=0.3)
    monkeypatch.setattr(command, "compress", lambda name, job: (made.append(name), whole(name, job))[1])
    run(own_networks.mobile(), tmp_path / "small.safetensors", against=["fpgm"])
    assert made == ["l1", "fpgm"]
    assert len(list(tmp_path.iterdir())) == 3


def test_overwrites_only_by_force(tmp_path):
    out = tmp_path / "small.safetensors"
    run(own_networks.mobile(), out)
    first = out.read_bytes()
    with pytest.raises(ValueError, match="--force to overwrite"):
        run(own_networks.mobile(), out, strength=0.75)
    assert out.read_bytes() == first
    run(own_networks.mobile(), out, strength=0.75, force=True)
    assert len(out.read_bytes()) < len(first)


def test_an_opponent_that_cannot_is_left_out_and_the_method_itself_refused(tmp_path, monkeypatch):
    whole = command.compress

    def choosy(name, job):
        if name == "fpgm":
            raise ValueError("Not this one.")
        return whole(name, job)

    monkeypatch.setattr(command, "compress", choosy)
    found = run(own_networks.mobile(), tmp_path / "small.safetensors", against=["fpgm"])
    assert found.refused == ("FPGM was left out: Not this one.",)
    with pytest.raises(ValueError, match="Not this one"):
        run(own_networks.mobile(), tmp_path / "other.safetensors", "fpgm")
    assert not list(tmp_path.glob("*other*"))


def test_opponents_lose_as_much_where_that_means_the_same(tmp_path, monkeypatch):
    asked, whole = {}, command.compress
    monkeypatch.setattr(command, "compress", lambda name, job: (asked.update({name: job.strength}), whole("l1", job))[1])
    run(own_networks.mobile(), tmp_path / "a.safetensors", "red", against=["l1"])
    assert asked == {"red": 0.1, "l1": 0.1}
    run(own_networks.mobile(), tmp_path / "b.safetensors", "redpp", against=["l1"], strength=0.2)
    assert asked == {"red": 0.1, "redpp": 0.2, "l1": 0.5}


@pytest.mark.parametrize("build", ["attentive", "mobile"])
def test_as_typed(tmp_path, build):
    out = tmp_path / "small.safetensors"
    arguments = (f"{FILE}:{build}", "--data", f"{FILE}:loaders", "--out", out, "--steps", 2)
    done = typed(*arguments, "--method", "l1", "--against", "none", "--json")
    assert done.exit_code == 0, done.output
    rows = json.loads(done.stdout)
    assert [row["network"] for row in rows][-1] == "L1" and out.exists()
    assert "--force" in str(typed(*arguments, "--method", "l1").exception)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--method", "magic"), "no method 'magic'"),
        (("--method", "l1", "--strength", "1.5"), "give one from 0"),
        (("--method", "l1", "--out", "small.pt"), "must end in .safetensors"),
        (("--method", "l1", "--data", "nowhere.py:loaders"), "There is no file"),
    ],
)
def test_mistakes_are_one_sentence(tmp_path, arguments, sentence):
    given = {"--data": f"{FILE}:loaders", "--out": str(tmp_path / "small.safetensors")}
    given |= dict(zip(arguments[::2], arguments[1::2], strict=True))
    done = typed(f"{FILE}:mobile", *(word for pair in given.items() for word in pair))
    assert isinstance(done.exception, ValueError) and sentence in str(done.exception)
    assert not list(tmp_path.glob("*.safetensors"))
