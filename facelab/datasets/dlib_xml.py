"""dlib's XML lists: photographs, each with boxes, each box with numbered landmarks."""

import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np

from facelab.batch import FaceBatch
from facelab.datasets import catalogue
from facelab.datasets.annotations import Annotation, cropped
from facelab.datasets.cropping import WIDEN

_LISTS = ("training_with_face_landmarks.xml", "testing_with_face_landmarks.xml")


def read_dlib(file: Path) -> list[Annotation]:
    """Every box of a list, with its 68 landmarks; the photographs lie beside the list, nobody knows who is in them.

    Raises:
        FileNotFoundError: there is no such list.
        ValueError: it is not XML, or a box or a landmark lacks a number.
    """
    if not file.exists():
        raise FileNotFoundError(f"There is no list {file}.")
    annotations = []
    try:
        for image in ElementTree.parse(file).iter("image"):
            name = image.attrib["file"]
            for number, box in enumerate(image.iter("box")):
                left, top, width, height = (float(box.attrib[key]) for key in ("left", "top", "width", "height"))
                parts = {int(part.attrib["name"]): (float(part.attrib["x"]), float(part.attrib["y"])) for part in box.iter("part")}
                numbers = sorted(int(part.attrib["name"]) for part in box.iter("part"))  # one may be there twice
                landmarks = np.array([parts.get(i, (np.nan, np.nan)) for i in range(68)])
                fault = "marked to be ignored" if box.get("ignore") == "1" else ""
                if not fault and len(numbers) != 68:
                    fault = f"{len(numbers)} landmarks instead of 68"
                elif not fault and numbers != list(range(68)):
                    fault = f"no landmark {min(set(range(68)) - parts.keys())} among those numbered {numbers[0]} to {numbers[-1]}"
                annotations.append(
                    Annotation(
                        file=file.parent / name,
                        landmarks=landmarks,
                        name=f"{name}#{number}",
                        person=f"{name}#{number}",
                        box=np.array([left, top, left + width - 1, top + height - 1]),
                        fault=fault,
                    )
                )
    except (ElementTree.ParseError, KeyError, ValueError) as error:
        raise ValueError(f"The list {file} is damaged ({type(error).__name__}: {error}); fetch it again.") from error
    return annotations


def dlib_faces(size: int = 64, widen: float = WIDEN) -> FaceBatch:
    """The faces in dlib's example photographs with 68 landmarks, cropped; every face counts as another person.

    Args:
        size: width and height, pixels.
        widen: side of the crop over the longer side of the landmarks' box.

    Raises:
        FileNotFoundError: the data set is not on this machine.
    """
    folder = catalogue.path("dlib_faces")
    return cropped([annotation for name in _LISTS for annotation in read_dlib(folder / name)], size, widen, "dlib_faces")
