"""Tables keep their figures and their provenance on disk."""

import pandas as pd
import pytest

from facelab.importance.scores import accuracy
from facelab.importance.tables import CRITERIA_COLUMNS, by_group, provenance, read_table, save_table


def rows(*values):
    return pd.DataFrame(list(values), columns=list(CRITERIA_COLUMNS))


def test_a_table_comes_back_as_it_was(tmp_path):
    frame = rows(("net", "channel", "conv", 3, "4x1x3x3", 40, 1, "size", -40.0, "weights", 100))
    frame.attrs = provenance(accuracy, network="net", seed=2, samples=100)
    save_table(frame, tmp_path / "deep" / "table.parquet")
    again = read_table(tmp_path / "deep" / "table.parquet")
    pd.testing.assert_frame_equal(again, frame)
    assert again.attrs == frame.attrs
    assert again.attrs["score"] == "accuracy" and set(again.attrs) >= {"facelab", "torch", "seed", "network", "samples"}


def test_tied_channels_are_added_up():
    frame = rows(
        ("net", "channel", "b", 0, "1x1", 2, 2, "size", 5.0, "u", 9),
        ("net", "channel", "a", 0, "1x7", 3, 1, "size", 1.0, "u", 9),
        ("net", "channel", "c", 0, "1x1", 4, 3, "size", 7.0, "u", 9),
        ("net", "layer", "a", -1, "1x7", 3, 1, "size", 1.0, "u", 9),
    )
    summed = by_group(frame, {"a+b": ("a", "b"), "c": ("c",)})
    assert summed.layer.tolist() == ["a+b", "c"]
    assert summed.value.tolist() == [6.0, 7.0] and summed.parameters.tolist() == [5, 4]
    assert summed["shape"].tolist() == ["1x7", "1x1"] and summed.depth.tolist() == [1, 3]
    assert list(summed.columns) == list(frame.columns)


def test_errors_name_what_is_wrong(tmp_path):
    with pytest.raises(ValueError, match="no table"):
        read_table(tmp_path / "nowhere.parquet")
    with pytest.raises(ValueError, match="lacks the columns"):
        save_table(pd.DataFrame({"network": ["a"]}), tmp_path / "a.parquet")
    frame = rows()
    frame.attrs = {"score": accuracy}
    with pytest.raises(ValueError, match="provenance"):
        save_table(frame, tmp_path / "a.parquet")
