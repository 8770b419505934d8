"""Real faces, cropped and normalised into the batch type of the rendered ones.

Readers give a `FaceBatch`; where data lie and how they are fetched is in `facelab.datasets.catalogue`.
"""

from facelab.datasets.aflw import aflw, read_aflw
from facelab.datasets.annotations import Annotation, SkippedFaces, read_image
from facelab.datasets.biwi import biwi
from facelab.datasets.bundled import astronaut, lfw_crops
from facelab.datasets.celeba import celeba, read_celeba
from facelab.datasets.cofw import cofw, read_cofw
from facelab.datasets.cropping import WIDEN, Crop, bounding_box, crop_face, cut, eye_crops, square_around
from facelab.datasets.detection import NoFaceFound, crop_largest_face, detect_face, face_box_to_crop
from facelab.datasets.dlib_xml import dlib_faces, read_dlib
from facelab.datasets.gaze import mpiigaze, read_mpiigaze, read_unityeyes, unityeyes
from facelab.datasets.p1 import p1, p1_people, person_and_clip, read_p1, split_of
from facelab.datasets.posed import aflw2000, read_300wlp, read_aflw2000, w300lp
from facelab.datasets.pts import ibug, read_ibug, read_pts
from facelab.datasets.wflw import read_wflw, wflw

__all__ = [
    "WIDEN",
    "Annotation",
    "Crop",
    "NoFaceFound",
    "SkippedFaces",
    "aflw",
    "aflw2000",
    "astronaut",
    "biwi",
    "bounding_box",
    "celeba",
    "cofw",
    "crop_face",
    "crop_largest_face",
    "cut",
    "detect_face",
    "dlib_faces",
    "eye_crops",
    "face_box_to_crop",
    "ibug",
    "lfw_crops",
    "mpiigaze",
    "p1",
    "p1_people",
    "person_and_clip",
    "read_300wlp",
    "read_aflw",
    "read_aflw2000",
    "read_celeba",
    "read_cofw",
    "read_dlib",
    "read_ibug",
    "read_image",
    "read_mpiigaze",
    "read_p1",
    "read_pts",
    "read_unityeyes",
    "read_wflw",
    "split_of",
    "square_around",
    "unityeyes",
    "w300lp",
    "wflw",
]
