"""The world explorer shows what the world renders, for every value of every control."""

from itertools import combinations

import numpy as np
import pytest

from facelab.explorers import stops
from facelab.explorers.world import CHANNELS, WorldExplorer, world_view
from facelab.worlds import faces

pytestmark = pytest.mark.slow

SHOWN = ("face", "identity", "channel", "markup", "size")


@pytest.fixture(scope="module")
def explorer() -> WorldExplorer:
    return WorldExplorer(seed=0, face=3, size=64, channel="normals")  # the quickest to draw


def move_unseen(explorer: WorldExplorer, **values) -> None:
    """Moves controls, those that depend on them follow, and nothing is drawn: most of the time goes into pictures."""
    with explorer._hold():
        for name, value in values.items():
            explorer.controls[name].value = value
        explorer.settle()


@pytest.fixture
def fresh(explorer) -> WorldExplorer:
    """The same explorer, back at face 3."""
    move_unseen(explorer, channel="parts", markup=68, size=64, face=4)
    explorer.set(face=3)
    return explorer


def test_every_factor_of_the_world_has_a_control_with_a_description(explorer):
    assert set(explorer.controls) == {*SHOWN, *faces.FACTORS}
    for name, factor in faces.FACTORS.items():
        control = explorer.controls[name]
        assert control.description and control.tooltip == factor.what
        assert stops(control)[0] == factor.low and stops(control)[-1] == factor.high


QUICK = {*SHOWN, "yaw", "au_12", "light_azimuth", "glasses", "identity", "expression"}
"""Controls, one of each kind, that `make check` moves too; all hundred take half a minute."""


def test_every_channel_is_its_own_picture(fresh):
    pictures = {channel: fresh.static(channel=channel).rgb() for channel in CHANNELS}
    for one, other in combinations(CHANNELS, 2):
        assert not np.array_equal(pictures[one], pictures[other]), (one, other)


@pytest.mark.parametrize(
    "change", [{"yaw": 60}, {"au_12": 1.0}, {"light_azimuth": 90}, {"glasses": 1}, {"blur": 0.05}, {"markup": 5}, {"identity": 9}]
)
def test_a_control_changes_the_picture(fresh, change):
    assert not np.array_equal(fresh.static(**change).rgb(), fresh.static().rgb())


def test_it_begins_with_the_face_as_the_world_samples_it(fresh):
    sampled = faces.sample(1, 0, 3)
    for name in faces.FACTORS:
        control = fresh.controls[name]
        assert abs(control.value - sampled[name][0]) <= getattr(control, "step", 0.001) * 0.501, name


def test_another_face_brings_its_factors_and_coming_back_restores(fresh):
    before = fresh.values
    fresh.set(face=8)
    assert fresh.values["identity"] == 8 and fresh.values["yaw"] != before["yaw"]
    fresh.set(face=3)
    assert fresh.values == before


def test_an_expression_moves_its_action_units_and_one_of_them_can_then_be_moved_alone(fresh):
    fresh.set(expression=faces.EXPRESSIONS.index("surprise"), intensity=1.0)
    assert fresh.values["au_1"] > 0.3 and fresh.values["au_26"] > 0.3
    others = {name: value for name, value in fresh.values.items() if name != "au_26"}
    fresh.set(au_26=0.0)
    assert {name: value for name, value in fresh.values.items() if name != "au_26"} == others
    assert fresh.values["au_26"] == 0.0


def test_another_identity_changes_the_person_and_nothing_else(fresh):
    before = fresh.values
    fresh.set(identity=40)
    for name, factor in faces.FACTORS.items():
        if factor.group not in ("shape", "appearance"):
            assert fresh.values[name] == before[name], name
    assert fresh.values["nose_width"] != before["nose_width"]


def test_the_static_twin_follows_like_the_live_view(fresh):
    happy = faces.EXPRESSIONS.index("happiness")
    twin = fresh.static(expression=happy, intensity=1.0).rgb()
    fresh.set(expression=happy, intensity=1.0)
    assert np.array_equal(twin, fresh.shown.picture.rgb())


def test_the_view_is_a_pure_function_of_the_controls(fresh):
    values = fresh.values
    assert np.array_equal(world_view(0, **values).picture.rgb(), fresh.static().rgb())


def test_nothing_changed_yet_is_said_so(fresh):
    assert "0% of the pixels differ" in fresh.view(channel="what changed").text
    assert "0% of the pixels differ" not in fresh.view(channel="what changed", light_azimuth=100).text


def test_an_unknown_control_is_refused(fresh):
    with pytest.raises(ValueError, match="no control 'hat'"):
        fresh.static(hat=1)
