"""Procedural rooms as a dataset: listed by name, rendered when a scene is loaded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from qvggt.data.dataset import SequenceRecord, chosen_frames
from qvggt.data.rooms.family import SPLITS, check_frames, room_scene
from qvggt.options import ImageOptions
from qvggt.options.messages import did_you_mean
from qvggt.types import QvggtError, Scene

_GROUP = "rooms"


class RoomsReader:
    """Renders the rooms of a split at the model's image size, square, on the CPU.

    Attributes:
        landmarks: 0..1, how much a single image reveals of its own pose; see ``RoomFamily``.

    Args:
        split: a key of ``rooms.SPLITS``.
        landmarks: in place of the split's own value.
        frames: least number of frames of a room; more than the split's own number make the camera's path longer.

    Raises:
        QvggtError: there is no such split, or ``landmarks`` or ``frames`` is out of range.
    """

    name = "rooms"

    def __init__(self, split: str = "test", landmarks: float | None = None, frames: int | None = None):
        if split not in SPLITS:
            nearest = did_you_mean(split, SPLITS)
            raise QvggtError(f"rooms has no split {split!r}: choose one of {', '.join(SPLITS)}{nearest}")
        check_frames(frames)
        self.split = split
        self._part = SPLITS[split]
        self._family = self._part.family
        self._frames = max(self._part.frames, frames or 0)
        if landmarks is not None:
            if not 0.0 <= landmarks <= 1.0:
                raise QvggtError(f"landmarks must lie in 0..1, not {landmarks} (--landmarks)")
            self._family = replace(self._family, landmarks=landmarks)
        self.landmarks = self._family.landmarks

    def sequences(self) -> tuple[SequenceRecord, ...]:
        """Return the rooms, named as ``load_rooms`` names them, with the frames of each in order.

        Raises:
            QvggtError: the split is ``train``, which never ends.
        """
        if self.split == "train":
            raise QvggtError(
                "the rooms split 'train' never ends, so it cannot be listed: choose another split (--split)"
            )
        frames = tuple(str(index) for index in range(self._frames))
        return tuple(SequenceRecord(f"{self.split}/{index:05d}", frames, _GROUP) for index in range(self._part.scenes))

    def load(self, record: SequenceRecord, frame_indices: Sequence[int], options: ImageOptions) -> Scene:
        """Render a room and return the chosen frames with cameras and depth in meters."""
        chosen_frames(record, frame_indices)
        seed = self._part.first_seed + int(record.name.rpartition("/")[2])
        room = room_scene(seed, self._frames, (options.size, options.size), self._family, name=record.name)
        order = list(frame_indices)
        if order == list(range(self._frames)):
            return room
        arrays = {
            name: getattr(room, name)[order] for name in ("images", "cam_from_world", "intrinsics", "depth", "valid")
        }
        return replace(room, **arrays)
