"""Metric scale from files: positions, GPS in photographs, depth images."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import ExifTags, Image
from PIL.TiffImagePlugin import IFDRational

import qvggt
from qvggt.postprocess.frames import camera_centers
from qvggt.postprocess.geodesy import enu_from_geodetic
from qvggt.postprocess.metric_scale import scaled
from qvggt.types import QvggtError

ORIGIN = np.array([-33.8568, 151.2153, 40.0])  # south and east


def geodetic_of(enu):
    """Return latitude, longitude and height of positions in meters east, north and up of ORIGIN."""
    found = np.tile(ORIGIN, (len(enu), 1))
    for _ in range(6):
        north_m, east_m = np.radians(1) * 6.37e6, np.radians(1) * 6.37e6 * np.cos(np.radians(ORIGIN[0]))
        found += (enu - enu_from_geodetic(found, ORIGIN))[:, [1, 0, 2]] / (north_m, east_m, 1)
    return found


def write_photo(path, geodetic, size=(224, 168)):
    exif = Image.Exif()
    gps = exif.get_ifd(ExifTags.IFD.GPSInfo)
    for tag, reference, angle, names in (
        (ExifTags.GPS.GPSLatitude, ExifTags.GPS.GPSLatitudeRef, geodetic[0], "NS"),
        (ExifTags.GPS.GPSLongitude, ExifTags.GPS.GPSLongitudeRef, geodetic[1], "EW"),
    ):
        minutes = abs(angle) * 60
        seconds = IFDRational(round(minutes % 1 * 60 * 10**6), 10**6)
        gps[tag], gps[reference] = (
            (IFDRational(int(minutes // 60)), IFDRational(int(minutes % 60)), seconds),
            names[int(angle < 0)],
        )
    gps[ExifTags.GPS.GPSAltitude] = IFDRational(round(geodetic[2] * 1000), 1000)
    Image.new("RGB", size).save(path, exif=exif)


@pytest.fixture
def large(room_factory):
    """Return a prediction whose unit is 100 m, and the true camera positions."""
    room = room_factory(frames=6)
    return room, camera_centers(room.cam_from_world.astype(np.float64)) @ np.array(
        [[1, 0, 0], [0, 0, -1], [0, 1, 0]]
    ) * 100


def test_to_meters__gps_of_photographs(large, tmp_path):
    room, enu = large
    for name, place in zip(room.names, geodetic_of(enu), strict=True):
        write_photo(tmp_path / name, place)
    metric, details = qvggt.to_meters(room, "gps", [tmp_path])
    assert details["meters_per_unit"] == pytest.approx(100, rel=1e-5)
    assert details["source"] == "gps"
    assert details["gps_accuracy_m"] == 5
    assert details["gps_origin"]["latitude_deg"] == pytest.approx(geodetic_of(enu)[0, 0], abs=1e-9)
    np.testing.assert_allclose(metric.depth, room.depth * 100, rtol=1e-4)
    aligned, details = qvggt.to_meters(room, qvggt.ScaleOptions(gps=True, align_world=True), [tmp_path])
    assert details["world"] == "known"
    np.testing.assert_allclose(camera_centers(aligned.cam_from_world), enu - enu[0], atol=0.02)


def test_to_meters__gps_that_is_too_coarse_or_missing(large, tmp_path):
    room, enu = large
    for name, place in zip(room.names, geodetic_of(enu / 100), strict=True):
        write_photo(tmp_path / name, place)
    with pytest.raises(QvggtError, match="accurate to 5 m"):
        qvggt.to_meters(room, "gps", [tmp_path])
    for name in room.names[1:]:
        Image.new("RGB", (224, 168)).save(tmp_path / name)
    with pytest.raises(QvggtError, match="1 of 6 photographs"):
        qvggt.to_meters(room, "gps", [tmp_path])
    with pytest.raises(QvggtError, match="--images"):
        qvggt.to_meters(room, "gps")


def test_to_meters__positions_in_a_csv_file(room, tmp_path, caplog):
    places = camera_centers(room.cam_from_world.astype(np.float64)) * 3 + (1, 2, 3)
    lines = ["name,x,y,z", "# surveyed", *(f"{n},{x},{y},{z}" for n, (x, y, z) in zip(room.names, places, strict=True))]
    (tmp_path / "p.csv").write_text("\n".join([*lines, "room_99.jpg,0,0,0"]))
    metric, details = qvggt.to_meters(room, str(tmp_path / "p.csv"))
    assert details["meters_per_unit"] == pytest.approx(3, rel=1e-6)
    np.testing.assert_allclose(metric.cam_from_world[:, :, 3], room.cam_from_world[:, :, 3] * 3, rtol=1e-6)
    assert "room_99.jpg" in caplog.text
    aligned, _ = qvggt.to_meters(room, qvggt.ScaleOptions(positions=tmp_path / "p.csv", align_world=True))
    np.testing.assert_allclose(camera_centers(aligned.cam_from_world), places, atol=1e-5)


def test_to_meters__positions_on_a_line_do_not_align_the_world(room, tmp_path):
    line = np.tile(np.eye(3, 4, dtype=np.float32), (4, 1, 1))
    line[:, 0, 3] = (0, -1, -2, -4)
    (tmp_path / "p.csv").write_text("\n".join(f"{n},{-2 * c[0, 3]},0,0" for n, c in zip(room.names, line, strict=True)))
    straight = replace(room, cam_from_world=line)
    assert qvggt.to_meters(straight, str(tmp_path / "p.csv"))[1]["meters_per_unit"] == pytest.approx(2)
    with pytest.raises(QvggtError, match="on one line"):
        qvggt.to_meters(straight, qvggt.ScaleOptions(positions=tmp_path / "p.csv", align_world=True))


@pytest.mark.parametrize(
    "text", ["", "a.jpg,1,2", "a.jpg,1,2,x", "a.jpg,1,2,inf", "a.jpg,1,2,3\na.jpg,1,2,3", "\0\xff"]
)
def test_to_meters__damaged_positions(room, tmp_path, text):
    (tmp_path / "p.csv").write_text(text, encoding="latin-1")
    with pytest.raises(QvggtError, match=r"position file .*p\.csv is damaged.*name,x,y,z"):
        qvggt.to_meters(room, str(tmp_path / "p.csv"))


def test_to_meters__depth_image_in_millimeters(room, tmp_path):
    small = scaled(room, 0.4)
    Image.fromarray(np.rint(room.depth[2] * 1000).astype(np.uint16)).save(tmp_path / "d.png")
    metric, details = qvggt.to_meters(small, f"room_03.jpg={tmp_path / 'd.png'}")
    assert details["meters_per_unit"] == pytest.approx(2.5, rel=1e-4)
    assert details["worst_residual_m"] < 2e-3
    np.testing.assert_allclose(metric.depth, room.depth, rtol=1e-4)
    Image.fromarray((room.depth[2] * 50).astype(np.uint8)).save(tmp_path / "d.png")
    with pytest.raises(QvggtError, match=r"not a 16-bit image.*millimeters"):
        qvggt.to_meters(small, f"room_03.jpg={tmp_path / 'd.png'}")
