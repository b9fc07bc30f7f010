"""Where the parts of a person are, from the 17 keypoints of COCO and the person's outline.

Keypoints become masks in the manner of Schwalbe, "Concept Embedding Analysis" (hybrid_learning):
thick lines between joints, as thick as the person is tall. Here a part also has a body of its
own, a head or a torso, and ends where the person ends.
"""

from collections.abc import Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

BODY_PARTS = ("head", "torso", "arms", "legs")
KEYPOINTS = (
    *("nose", "left_eye", "right_eye", "left_ear", "right_ear"),
    *("left_shoulder", "right_shoulder", "left_elbow", "right_elbow", "left_wrist", "right_wrist"),
    *("left_hip", "right_hip", "left_knee", "right_knee", "left_ankle", "right_ankle"),
)
HIDDEN = 1  # a keypoint that is labelled although something lies before it; 0 is not labelled
NOSE, EYES, EARS = (0,), (1, 2), (3, 4)
SHOULDERS, ELBOWS, WRISTS = (5, 6), (7, 8), (9, 10)
HIPS, KNEES, ANKLES = (11, 12), (13, 14), (15, 16)
FACE = (*NOSE, *EYES, *EARS)

# All lengths below are shares of the stature. Between joints, after Drillis & Contini, "Body
# Segment Parameters" (1966); between keypoints of the head, the longest that a view shows.
BODY_LENGTHS = (
    (*SHOULDERS, 0.21),
    *((a, b, 0.29) for a, b in zip(SHOULDERS, HIPS, strict=True)),
    *((a, b, 0.186) for a, b in zip(SHOULDERS, ELBOWS, strict=True)),
    *((a, b, 0.146) for a, b in zip(ELBOWS, WRISTS, strict=True)),
    *((a, b, 0.245) for a, b in zip(HIPS, KNEES, strict=True)),
    *((a, b, 0.246) for a, b in zip(KNEES, ANKLES, strict=True)),
)
HEAD_LENGTHS = (
    *((*EYES, 0.037), (*EARS, 0.087)),
    *((*NOSE, ear, 0.075) for ear in EARS),
    *((a, b, 0.052) for a, b in zip(EYES, EARS, strict=True)),
)
SILHOUETTE = 0.19  # area of a standing person, as a share of the squared stature
HEAD = 0.135  # from chin to crown
TORSO_MARGIN = 0.055  # from the joints to the sides
UP = np.array([0.0, -1.0])


class Bone(NamedTuple):
    """A thick line between two keypoints, drawn on past its end for a hand."""

    start: int
    end: int
    radius: float
    beyond: float = 0.0

    @property
    def ends(self) -> tuple[int, int]:
        """Both keypoints."""
        return self.start, self.end


LIMBS = {
    "arms": (
        *(Bone(a, b, 0.038) for a, b in zip(SHOULDERS, ELBOWS, strict=True)),
        *(Bone(a, b, 0.036, 0.09) for a, b in zip(ELBOWS, WRISTS, strict=True)),
    ),
    "legs": (
        *(Bone(a, b, 0.06) for a, b in zip(HIPS, KNEES, strict=True)),
        *(Bone(a, b, 0.055) for a, b in zip(KNEES, ANKLES, strict=True)),
        *(Bone(ankle, ankle, 0.085) for ankle in ANKLES),  # a foot may point anywhere
    ),
}


class Part(NamedTuple):
    """What is known of a part at some pixels; it is absent where neither holds."""

    present: Bool[np.ndarray, " pixels"]
    unknown: Bool[np.ndarray, " pixels"]


class Pose:
    """The keypoints of one person.

    Args:
        keypoints: x and y in pixels, and 0 for not labelled, 1 for hidden, 2 for visible.
        area: of the person, in pixels.
    """

    def __init__(self, keypoints: Float[np.ndarray, "17 3"], area: float) -> None:
        self.points, self.flags = keypoints[:, :2], keypoints[:, 2]
        self.stature = self._stature(area)

    def has(self, joints: Sequence[int]) -> list[int]:
        """Those of some keypoints that are labelled."""
        return [joint for joint in joints if self.flags[joint] > 0]

    def sees(self, bone: Bone) -> bool:
        """Whether both ends of a line are labelled, and one of them is visible."""
        flags = self.flags[list(bone.ends)]
        return bool((flags > 0).all() and (flags > HIDDEN).any())

    def centre(self, joints: Sequence[int]) -> Float[np.ndarray, "2"] | None:
        """The mean of those of some keypoints that are labelled."""
        labelled = self.has(joints)
        return self.points[labelled].mean(axis=0) if labelled else None

    def statures(self, lengths: Sequence[tuple[int, int, float]]) -> list[float]:
        """The stature in pixels that each distance between two labelled keypoints tells of."""
        return [
            float(np.linalg.norm(self.points[a] - self.points[b])) / share
            for a, b, share in lengths
            if len(self.has((a, b))) == 2
        ]

    def _stature(self, area: float) -> float:
        """The upper quartile of what the distances tell: a turned limb is seen too short.

        From the area of the outline where no two keypoints are labelled.
        """
        head = self.statures(HEAD_LENGTHS)
        told = [*self.statures(BODY_LENGTHS), *([max(head)] if head else [])]
        return float(np.quantile(told, 0.75)) if any(told) else (area / SILHOUETTE) ** 0.5


def body_parts(
    keypoints: Float[np.ndarray, "17 3"], person: Bool[np.ndarray, "rows columns"]
) -> tuple[Bool[np.ndarray, "4 rows columns"], Bool[np.ndarray, "4 rows columns"]]:
    """Where each of `BODY_PARTS` of a person is, and where that is not known.

    Both lie inside of the person. Parts may overlap: an arm before the torso is both. A part of
    which a keypoint is not labelled is unknown wherever it is not seen to be, and so is a limb
    between two hidden joints along its line. For the head one keypoint is enough.

    Args:
        keypoints: x and y in pixels, and 0 for not labelled, 1 for hidden, 2 for visible.
        person: the pixels that show the person.
    """
    pose = Pose(keypoints, area=float(person.sum()))
    pixels = np.argwhere(person)[:, ::-1].astype(np.float64)
    present, unknown = np.zeros((2, len(BODY_PARTS), *person.shape), dtype=bool)
    for k, name in enumerate(BODY_PARTS):
        present[k][person], unknown[k][person] = _part(name, pose, pixels)
    return present, unknown


def shown_parts(keypoints: Float[np.ndarray, "17 3"]) -> list[str]:
    """The names of those parts that the keypoints of a person tell the place of."""
    pose = Pose(keypoints, area=1.0)
    shown = {
        "head": bool(pose.has(FACE)),
        "torso": bool(pose.has(SHOULDERS) and pose.has(HIPS)),
        **{name: any(pose.sees(bone) for bone in bones) for name, bones in LIMBS.items()},
    }
    return [name for name in BODY_PARTS if shown[name]]


def _part(name: str, pose: Pose, pixels: Float[np.ndarray, "pixels 2"]) -> Part:
    if name == "head":
        return _head(pose, pixels)
    return _torso(pose, pixels) if name == "torso" else _limbs(LIMBS[name], pose, pixels)


def _head(pose: Pose, pixels: Float[np.ndarray, "pixels 2"]) -> Part:
    """An egg around the face, higher above its middle, for hair and hat, than below."""
    length = _head_length(pose)
    up = _up(pose, length)
    centre = _head_centre(pose, up * length)
    if centre is None:
        return _part_of(np.zeros(len(pixels), dtype=bool), complete=False)
    above = (pixels - centre) @ up / length
    aside = (pixels - centre) @ (up[::-1] * (1, -1)) / length
    inside = (above / np.where(above > 0, 0.75, 0.55)) ** 2 + (aside / 0.56) ** 2 <= 1
    return _part_of(inside, complete=True)


def _head_length(pose: Pose) -> float:
    told = pose.statures(HEAD_LENGTHS)
    bounds = (0.7 * pose.stature, 1.4 * pose.stature)
    return HEAD * float(np.clip(max(told), *bounds)) if told else HEAD * pose.stature


def _up(pose: Pose, length: float) -> Float[np.ndarray, "2"]:
    """The direction from the neck to the face; up in the image where one is not seen."""
    face = pose.centre(FACE)
    if face is None or len(pose.has(SHOULDERS)) < 2:
        return UP
    neck = face - pose.points[list(SHOULDERS)].mean(axis=0)
    distance = np.linalg.norm(neck)
    return neck / distance if distance > length / 2 else UP


def _head_centre(pose: Pose, up: Float[np.ndarray, "2"]) -> Float[np.ndarray, "2"] | None:
    """Between the ears; an ear seen alone is nearer to it than the eyes are."""
    ears, eyes, nose = pose.centre(EARS), pose.centre(EYES), pose.centre(NOSE)
    face = eyes if eyes is not None else None if nose is None else nose + 0.2 * up
    if ears is None:
        return face
    ears = ears + 0.07 * up
    return ears if face is None or len(pose.has(EARS)) == 2 else 0.75 * ears + 0.25 * face


def _torso(pose: Pose, pixels: Float[np.ndarray, "pixels 2"]) -> Part:
    """The hull of shoulders and hips, widened."""
    joints = pose.has((*SHOULDERS, *HIPS))
    inside = np.zeros(len(pixels), dtype=bool)
    if pose.has(SHOULDERS) and pose.has(HIPS):
        corners = pose.points[joints]
        for a, b in combinations(corners, 2):
            inside |= _distance(pixels, a, b) <= TORSO_MARGIN * pose.stature
        for triangle in combinations(corners, 3):  # any point of a hull lies in one of these
            inside |= _in_triangle(pixels, *triangle)
    return _part_of(inside, complete=len(joints) == 4)


def _limbs(bones: Sequence[Bone], pose: Pose, pixels: Float[np.ndarray, "pixels 2"]) -> Part:
    """Thick lines between joints; one between hidden joints lies behind something."""
    present, hidden = np.zeros((2, len(pixels)), dtype=bool)
    joints = {joint for bone in bones for joint in bone.ends}
    for bone in bones:
        if len(pose.has(bone.ends)) == 2:
            near = _near(bone, pose, pixels)
            (present if pose.sees(bone) else hidden)[near] = True
    part = _part_of(present, complete=len(pose.has(sorted(joints))) == len(joints))
    return Part(present, part.unknown | (hidden & ~present))


def _near(
    bone: Bone, pose: Pose, pixels: Float[np.ndarray, "pixels 2"]
) -> Bool[np.ndarray, " pixels"]:
    start, end = pose.points[bone.start], pose.points[bone.end]
    length = np.linalg.norm(end - start)
    if length > 0:
        end = end + (end - start) / length * bone.beyond * pose.stature
    return _distance(pixels, start, end) <= bone.radius * pose.stature


def _part_of(present: Bool[np.ndarray, " pixels"], *, complete: bool) -> Part:
    return Part(present, np.zeros_like(present) if complete else ~present)


def _distance(
    pixels: Float[np.ndarray, "pixels 2"],
    start: Float[np.ndarray, "2"],
    end: Float[np.ndarray, "2"],
) -> Float[np.ndarray, " pixels"]:
    """Distance from each pixel to the line from one point to another, which may coincide."""
    line = end - start
    square = float(line @ line)
    share = ((pixels - start) @ line / square).clip(0, 1) if square > 0 else np.zeros(len(pixels))
    return np.linalg.norm(pixels - start - share[:, None] * line, axis=1)


def _in_triangle(
    pixels: Float[np.ndarray, "pixels 2"], *corners: Float[np.ndarray, "2"]
) -> Bool[np.ndarray, " pixels"]:
    """Whether each pixel lies on the same side of all three edges."""
    sides = []
    for start, end in zip(corners, (*corners[1:], corners[0]), strict=True):
        x, y = (pixels - start).T
        sides.append((end - start)[0] * y - (end - start)[1] * x)
    return np.all(np.array(sides) >= 0, axis=0) | np.all(np.array(sides) <= 0, axis=0)
