"""A report on networks of every kind: each ends in its tables and pictures, or in a sentence where a part does not apply."""

import html.parser
import warnings

import pandas as pd
import pytest
import torch
import user_networks
from torch import nn

from facelab import report
from facelab.explorers.explorer import Explorer
from facelab.importance.agreement import agreement
from facelab.importance.table import NAMES, planted_table
from facelab.report.credits import BehindEmbedding
from facelab.report.given import first, of_network
from facelab.yours import FOLDER, Data, DoesNotFit, load_data

PARTS = ("attributions", "layers", "criteria", "channels", "budgets", "compression")
# What a part says of a network, where it cannot say the usual.
SAID = {
    "residual": ("check", "Batch norms are part of the layers before them"),
    "transformer": ("check", "Weights of attention"),
    "recurrent": ("check", "embedding.weight"),
    "one layer": ("criteria", "there is a single layer"),
    "careless": ("layers", "there is no order of importance"),
    "normalised weights": ("check", "The weights of 0, 2 were made of other tensors"),
    "patches": ("criteria", "The criterion fisher does not apply"),
    "bytes": ("attributions", "Inputs of torch.uint8 have no gradient"),
}


def given(kind: str, monkeypatch) -> report.Given:
    monkeypatch.setattr("facelab.yours._call", lambda spec: user_networks.load(kind))
    return of_network(user_networks.build(kind), load_data("mine.py:loaders"), samples=40)


def parts_of(one: report.Given) -> list[report.Part]:
    measured = report.layers(one)
    foreseen = report.criteria(one, measured)
    others = report.channels(one), report.budgets(one, measured, foreseen), report.compression(one, ["red", "archtree"], steps=2)
    return [report.check(one), report.attributions(one), measured, foreseen, *others]


@pytest.mark.parametrize("kind", user_networks.KINDS)
def test_each_kind_of_network_ends_in_its_tables_or_in_sentences(kind, monkeypatch):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        made = parts_of(given(kind, monkeypatch))
    assert [part.name for part in made] == ["check", *PARTS]
    for part in made:
        assert part.text.endswith((".", "50 %."))
        assert "\n" not in part.text
        assert part.table is not None, part.text
        assert len(part.table)
        assert part.name == "check" or isinstance(part.alive, Explorer)
    name, words = SAID.get(kind, ("check", "answers all samples"))
    assert words in {part.name: part.text for part in made}[name]


def test_the_planted_truth_is_what_the_report_says():
    table = planted_table(0, steps=250)
    one = of_network(table.model, Data(table.training, table.evaluation, None, separate=True), columns=NAMES)
    said = report.attributions(one).text
    assert all(name in said for name in NAMES if name.startswith("decides"))
    measured = report.layers(one)
    drops = measured.table[measured.table.family == "noise"].groupby("layer")["drop"].mean()
    assert drops.idxmax() == "stem" and drops["branches.unheard"] == 0
    found = agreement(report.criteria(one, measured).table, measured.table)
    pairs = found[found.family == "noise"].set_index("criterion").pairs
    assert pairs["fisher"] > pairs["magnitude"]


def test_a_part_that_fails_says_so_and_those_built_on_it_too():
    table = planted_table(0, steps=1)
    one = of_network(table.model, Data(table.training, table.evaluation, None, separate=True))
    broken = report.Part("layers", "Layers", ("This part does not apply here.",))
    after = report.criteria(one, broken)
    assert after.table is None and "builds on the part 'layers'" in after.text
    assert "does not apply" in report.budgets(one, broken, after).text


def test_gradients_of_tokens_need_one_embedding_that_reads_them_alone():
    tokens = torch.arange(21).view(3, 7) % 20
    model = user_networks.build("recurrent")
    behind = BehindEmbedding(model, tokens)
    torch.testing.assert_close(behind(behind.embedding(tokens)), model(tokens))

    class Masked(user_networks.Recurrent):
        def forward(self, tokens):
            return super().forward(tokens) * (tokens[:, :1] % 2 + 1)

    with pytest.raises(ValueError, match="beside the embedding"):
        BehindEmbedding(Masked().eval(), tokens)
    with pytest.raises(ValueError, match="has 0 embeddings"):
        BehindEmbedding(nn.Linear(3, 2), tokens)


def test_the_first_samples_are_as_many_as_asked_for():
    batches = [(torch.arange(start, start + 10.0)[:, None], torch.zeros(10)) for start in (0, 10, 20)]
    kept = first(batches, 13)
    assert torch.cat([inputs for inputs, _ in kept]).flatten().tolist() == list(range(13))


def test_one_of_the_two_files_alone_is_refused():
    with pytest.raises(DoesNotFit, match="must both be given"):
        report.of_files("mine.py:build", "")


class Reader(html.parser.HTMLParser):
    """Counts what is in a page, and collects every address that is asked for."""

    def __init__(self):
        super().__init__()
        self.tags, self.addresses = [], []

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.addresses += [value for name, value in attributes if name in ("src", "href")]


def test_the_page_has_everything_and_asks_for_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv(FOLDER, str(tmp_path))
    made = parts_of(given("perceptron", monkeypatch))
    files, replaced = report.save(made, "there", "Report on mine")
    assert not replaced and {file.parent for file in files} == {tmp_path / "there"}
    assert report.save(made[:2], "there", "Report on mine")[1] == ["check.parquet", "attributions.parquet", "report.html"]
    assert not [path for path in (tmp_path / "there").iterdir() if path.name.startswith(".")]
    page = report.save(made, "there", "Report on mine")[0][-1].read_text(encoding="utf-8")
    seen = Reader()
    seen.feed(page)
    assert seen.tags.count("iframe") == 6 and seen.tags.count("h2") == 7
    assert page.count("plotly.js v") == 1 and 'id="plot-criteria"' in page and 'id="plot-compression"' in page
    assert all(address.startswith(("#", "data:")) for address in seen.addresses)
    kept = pd.read_parquet(tmp_path / "there" / "layers.parquet")
    pd.testing.assert_frame_equal(kept, made[2].table, check_dtype=False)


def test_a_file_is_kept_where_a_folder_is_asked_for(tmp_path):
    (tmp_path / "mine").write_text("kept")
    with pytest.raises(ValueError, match="is a file; give a folder"):
        report.save([report.Part("check", "Check", ("Fine.",))], tmp_path / "mine", "Report")
    assert (tmp_path / "mine").read_text() == "kept"
