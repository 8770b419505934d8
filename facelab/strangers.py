"""People to learn from, and strangers to recognise afterwards: faces of two groups that have nobody in common."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Int

from facelab.worlds.faces import render

SIZE = 40
"""Pixels along a side."""
VIEWS = {"yaw": (-30.0, 30.0), "pitch": (-10.0, 10.0), "roll": (-8.0, 8.0)}
APART = 1_000_000
"""Far more than the people and pictures of any group: groups begin at multiples of it, so that they share nothing."""


@dataclass(frozen=True)
class Photographs:
    """Gray pictures of people.

    Attributes:
        images: 0 (black) to 1 (white).
        people: who it is, from 0; equal numbers of one set are one person.
    """

    images: Float32[np.ndarray, "n 1 H W"]
    people: Int[np.ndarray, " n"]


def acquaintances(people: int = 160, each: int = 24, *, seed: int = 0) -> Photographs:
    """Rendered faces of the people that a network may learn from.

    Args:
        people: how many.
        each: pictures of each.
        seed: of the world.
    """
    return _rendered(0, people, each, 0, seed)


def strangers(sets: int = 3, people: int = 20, each: int = 20, *, seed: int = 0) -> list[tuple[Photographs, Photographs]]:
    """Groups of other rendered people, each with pictures to learn and other pictures to test.

    Args:
        sets: how many groups, which have nobody in common.
        people: in a group.
        each: pictures of each to learn, and as many to test.
        seed: of the world, as for `acquaintances`.
    """
    return [
        (_rendered(group, people, each, 2 * group, seed), _rendered(group, people, each, 2 * group + 1, seed))
        for group in range(1, sets + 1)
    ]


def _rendered(group: int, people: int, each: int, part: int, seed: int) -> Photographs:
    who = np.repeat(np.arange(people), each)
    faces = render(len(who), seed, SIZE, start=part * APART, channels=(), identity=group * APART + who, **VIEWS)
    return Photographs(faces.gray(), who)


def p1_acquaintances() -> Photographs:
    """Frames of the real people of the splits "train" and "validation" of P1.

    Raises:
        FileNotFoundError: the data set is not on this machine.
    """
    from facelab.datasets import p1

    parts = [p1(split, SIZE) for split in ("train", "validation")]
    people = np.concatenate([part.known("identity") for part in parts])
    return Photographs(np.concatenate([part.gray() for part in parts]), np.unique(people, return_inverse=True)[1])


def p1_strangers(sets: int = 3) -> list[tuple[Photographs, Photographs]]:
    """Groups of real people of the split "test": the last clip of each is to test, the others to learn; frames of a clip are too alike.

    Raises:
        FileNotFoundError: the data set is not on this machine.
    """
    from facelab.datasets import p1
    from facelab.datasets.p1 import person_and_clip

    faces = p1("test", SIZE)
    images, people = faces.gray(), np.unique(faces.known("identity"), return_inverse=True)[1]
    clips = np.array([person_and_clip(name)[1] for name in faces.names])
    last = np.array([clips[people == person].max() for person in range(people.max() + 1)])
    later, found = clips == last[people], []
    for group in range(sets):
        own = people % sets == group
        both = (Photographs(images[own & side], people[own & side] // sets) for side in (~later, later))
        found.append(tuple(both))
    return found  # type: ignore[return-value]
