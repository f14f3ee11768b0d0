"""Points and cameras as a GLB, upright and centered, for any glTF viewer."""

from __future__ import annotations

import numpy as np

from qvggt.export.gltf import POINTS, TRIANGLES, GlbBuilder, linear_from_srgb
from qvggt.export.points import PointCloud
from qvggt.files import new_file
from qvggt.options import Unit
from qvggt.postprocess.frames import GLTF_FROM_OPENCV, camera_centers, cameras_of, frame_colors, level_rotation
from qvggt.types import PathLike, Prediction

_FRUSTUM_SHARE = 0.05
"""Depth of a camera's frustum as a share of the scene's diagonal."""
_MAX_ANCHORS = 100_000
"""Upper limit of points used to compute the scene's center and size."""


def gltf_from_world(prediction: Prediction, cloud: PointCloud | None) -> np.ndarray:
    """Return the rigid transform [4, 4] from the prediction's world to the GLB's: y up, centered on the cloud.

    The rotation is ``frames.level_rotation``. The center is the middle of the 5th to 95th percentile box of the cloud,
    so that outliers do not move it; without points, of the camera positions.
    """
    rotation = level_rotation(prediction.cam_from_world)
    level = _anchors(prediction, cloud) @ rotation.T
    low, high = np.percentile(level, (5, 95), axis=0)
    transform = np.eye(4)
    transform[:3, :3] = rotation
    transform[:3, 3] = -(low + high) / 2
    return transform


def write_glb(path: PathLike, prediction: Prediction, cloud: PointCloud | None, unit: Unit = "model") -> None:
    """Write points and cameras as a GLB.

    The points' node has the matrix ``gltf_from_world``; its vertices are those of the cloud. Each frame is a glTF
    camera, with a frustum in the frame's color. Materials are unlit.

    Args:
        path: of the file.
        prediction: its cameras, if any, are drawn.
        cloud: None draws cameras only.
        unit: unit of lengths; glTF's is the meter, so the asset's ``extras`` state another.

    Raises:
        QvggtError: if there is neither a cloud nor cameras, or the file cannot be written.
    """
    builder = GlbBuilder("qvggt", {"unit": unit})
    # All nodes are roots: readers that move cameras to the root (trimesh) then still place them correctly.
    transform, roots = gltf_from_world(prediction, cloud), []
    if cloud is not None and len(cloud):
        roots.append(_add_points(builder, cloud, transform))
    if cloud is None or prediction.cam_from_world is not None:
        roots += _add_cameras(builder, prediction, transform, _FRUSTUM_SHARE * _diagonal(prediction, cloud))
    with new_file(path, overwrite=True) as temporary, open(temporary, "wb") as file:
        file.writelines(builder.chunks(roots))


def _anchors(prediction: Prediction, cloud: PointCloud | None) -> np.ndarray:
    """Return positions [N, 3], of points or else cameras, that locate the scene."""
    if cloud is not None and len(cloud):
        return cloud.points[:: 1 + len(cloud) // _MAX_ANCHORS].astype(np.float64)
    return camera_centers(cameras_of(prediction)[0])


def _diagonal(prediction: Prediction, cloud: PointCloud | None) -> float:
    low, high = np.percentile(_anchors(prediction, cloud), (5, 95), axis=0)
    return float(np.linalg.norm(high - low)) or 1.0


def _add_points(builder: GlbBuilder, cloud: PointCloud, transform: np.ndarray) -> int:
    # Floats: 8 bits of linear light are too few for dark colors, and common readers misread 16 bits.
    colors = linear_from_srgb(np.arange(256) / 255).astype("<f4")[cloud.colors]
    attributes = {
        "POSITION": builder.add_vertices(cloud.points.astype("<f4"), bounds=True),
        "COLOR_0": builder.add_vertices(colors),
    }
    material = builder.add_unlit_material("points", (1.0, 1.0, 1.0))
    primitive = {"attributes": attributes, "mode": POINTS, "material": material}
    mesh = builder.add("meshes", {"name": "points", "primitives": [primitive]})
    return builder.add("nodes", {"name": "points", "mesh": mesh, "matrix": _column_major(transform)})


def _add_cameras(builder: GlbBuilder, prediction: Prediction, transform: np.ndarray, depth: float) -> list[int]:
    cameras, intrinsics = cameras_of(prediction)
    height, width = prediction.images.shape[-2:]
    colors = linear_from_srgb(frame_colors(len(cameras)))
    nodes = []
    for index, (camera, color) in enumerate(zip(cameras, colors, strict=True)):
        label = f"camera {index + 1}: {prediction.names[index]}"
        fx, fy = float(intrinsics[index, 0, 0]), float(intrinsics[index, 1, 1])
        vertices, faces = frustum_mesh((width / fx / 2 * depth, height / fy / 2 * depth, depth))
        primitive = {
            "attributes": {"POSITION": builder.add_vertices(vertices, bounds=True)},
            "indices": builder.add_indices(faces.reshape(-1)),
            "material": builder.add_unlit_material(f"frustum {index + 1}", tuple(color.tolist())),
            "mode": TRIANGLES,
        }
        mesh = builder.add("meshes", {"name": f"frustum {index + 1}", "primitives": [primitive]})
        # A separate node: some importers keep either the camera or the mesh of a node.
        frustum = builder.add("nodes", {"name": f"frustum {index + 1}", "mesh": mesh})
        view = {
            "yfov": 2 * float(np.arctan(height / fy / 2)),
            "aspectRatio": (width / fx) / (height / fy),
            "znear": depth / 100,
        }
        lens = builder.add("cameras", {"name": label, "type": "perspective", "perspective": view})
        node = {
            "name": label,
            "camera": lens,
            "matrix": _column_major(transform @ _pose(camera)),
            "children": [frustum],
        }
        nodes.append(builder.add("nodes", node))
    return nodes


def _pose(cam_from_world: np.ndarray) -> np.ndarray:
    """Return ``world_from_cam`` [4, 4] with glTF's camera axes (y up, z backward)."""
    pose = np.eye(4)
    # A predicted rotation is orthonormal to float32 precision; importers that decompose it want the nearest exact one.
    u, _, vt = np.linalg.svd(cam_from_world[:, :3])
    pose[:3, :3] = (u @ vt).T @ GLTF_FROM_OPENCV
    pose[:3, 3] = camera_centers(cam_from_world[None])[0]
    return pose


def _column_major(matrix: np.ndarray) -> list[float]:
    return matrix.T.ravel().tolist()


def frustum_mesh(half_extent: tuple[float, float, float]) -> tuple[np.ndarray, np.ndarray]:
    """Return vertices [V, 3] float32 and faces [F, 3] uint32 of a frustum's edges as thin bars, in glTF camera axes.

    Args:
        half_extent: half the width and half the height of the far rectangle, and its distance, in the scene's unit.
    """
    x, y, z = half_extent
    apex = np.zeros(3)
    corners = np.array([[-x, y, -z], [x, y, -z], [x, -y, -z], [-x, -y, -z]])
    edges = [(apex, corner) for corner in corners] + [(corners[i], corners[(i + 1) % 4]) for i in range(4)]
    parts = [_bar(start, end, 0.016 * z) for start, end in edges]
    # A triangle above the upper edge marks the up direction.
    parts.append((np.array([[-x / 2, y * 1.1, -z], [x / 2, y * 1.1, -z], [0, y * 1.6, -z]]), np.array([[0, 1, 2]])))
    vertices, faces, offset = [], [], 0
    for part, part_faces in parts:
        vertices.append(part)
        faces.append(part_faces + offset)
        offset += len(part)
    return np.concatenate(vertices).astype("<f4"), np.concatenate(faces).astype("<u4")


def _bar(start: np.ndarray, end: np.ndarray, radius: float) -> tuple[np.ndarray, np.ndarray]:
    """Return a closed square prism from ``start`` to ``end``: vertices [8, 3] and faces [12, 3]."""
    along = (end - start) / np.linalg.norm(end - start)
    side = np.cross(along, np.eye(3)[np.argmin(np.abs(along))])
    side *= radius / np.linalg.norm(side)
    ring = np.stack((side, np.cross(along, side), -side, -np.cross(along, side)))
    sides = [face for i in range(4) for face in ((i, (i + 1) % 4, i + 4), ((i + 1) % 4, (i + 1) % 4 + 4, i + 4))]
    faces = [*sides, (0, 2, 1), (0, 3, 2), (4, 5, 6), (4, 6, 7)]
    return np.concatenate((start + ring, end + ring)), np.array(faces)
