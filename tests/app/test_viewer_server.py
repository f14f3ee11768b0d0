"""The server around the viewer: ports, addresses, and what is said when it cannot be opened."""

import socket
import sys
import urllib.error
import urllib.request
from dataclasses import fields, replace

import numpy as np
import pytest

from qvggt.app.compare import compare_results
from qvggt.app.live import live_view
from qvggt.app.server import free_port, is_own_page, serving, url_of
from qvggt.app.viewer import Viewer
from qvggt.export.result import Result, ResultInfo
from qvggt.options import ViewOptions
from qvggt.types import QvggtError


def frames_of(prediction, first, last):
    values = {each.name: getattr(prediction, each.name) for each in fields(prediction)}
    return replace(prediction, **{name: None if value is None else value[first:last] for name, value in values.items()})


@pytest.fixture
def taken():
    """Return a port that is in use."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        yield other.getsockname()[1]


def test_the_next_free_port_is_taken(taken):
    assert taken < free_port("127.0.0.1", taken) < taken + 100


def test_a_host_of_another_machine_is_refused():
    with pytest.raises(QvggtError, match="no free port"):
        free_port("203.0.113.7", 8080)
    with pytest.raises(QvggtError, match="not an address of this machine"):
        free_port("no.such.host.invalid", 8080)


@pytest.mark.parametrize(("option", "value"), [("port", 0), ("port", 70_000), ("max_points", 0)])
def test_impossible_options_are_refused(option, value):
    with pytest.raises(QvggtError, match=str(value)):
        ViewOptions(**{option: value})


def test_only_this_machine_can_connect_unless_told_otherwise():
    assert ViewOptions().local
    assert not ViewOptions(host="0.0.0.0").local


def test_without_viser_the_sentence_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "viser", None)
    with pytest.raises(QvggtError, match=r'pip install "qvggt\[viewer\]"'), serving(ViewOptions()):
        pass


def test_serving_is_quiet_answers_and_warns_of_open_hosts(capsys, caplog, taken):
    pytest.importorskip("viser")
    with serving(ViewOptions(port=taken)) as server:
        assert url_of(server) != f"http://localhost:{taken}"
        assert b"<html" in urllib.request.urlopen(url_of(server), timeout=20).read()
    assert capsys.readouterr().out == ""
    assert "in use" in caplog.text
    with serving(ViewOptions("0.0.0.0", taken)):
        assert "can see this scene" in caplog.text


@pytest.mark.parametrize(
    ("origin", "host", "own"),
    [
        (None, "localhost:8080", True),  # a program, not a page
        ("http://localhost:8080", "localhost:8080", True),
        ("http://127.0.0.1:9000", "127.0.0.1:9000", True),  # a tunnel
        ("http://[::1]:8080", "[::1]:8080", True),
        ("https://evil.example", "localhost:8080", False),
        ("http://evil.example:8080", "evil.example:8080", False),  # a name that its owner points here
        ("http://localhost:3000", "localhost:8080", False),
        ("http://localhost.evil.example:8080", "localhost.evil.example:8080", False),
        ("null", "localhost:8080", False),  # a file, or a page in a sandbox
        ("", "localhost:8080", False),
    ],
)
def test_only_the_viewers_own_page_is_answered(origin, host, own):
    assert is_own_page(origin, host) == own


def test_a_foreign_page_cannot_connect_to_a_viewer_of_this_machine(room, tmp_path):
    viser = pytest.importorskip("viser")
    from websockets.exceptions import InvalidStatus
    from websockets.sync.client import connect

    def opened(server, origin):
        address = url_of(server).replace("http:", "ws:")
        with connect(address, origin=origin, subprotocols=[f"viser-v{viser.__version__}"]) as connection:
            return len(connection.recv(timeout=30)) > 0

    with serving(ViewOptions(port=8750)) as server:
        Viewer(server, ViewOptions(), tmp_path).show([Result(tmp_path, room, ResultInfo())])
        assert opened(server, url_of(server))
        assert opened(server, None)
        with pytest.raises(InvalidStatus, match="403"):
            opened(server, "https://evil.example")
        request = urllib.request.Request(url_of(server), headers={"Origin": "https://evil.example"})
        with pytest.raises(urllib.error.HTTPError, match="403"):
            urllib.request.urlopen(request, timeout=20)
    with serving(ViewOptions("0.0.0.0", 8760)) as server:  # under whatever names other machines know this one
        Viewer(server, ViewOptions(), tmp_path).show([Result(tmp_path, room, ResultInfo())])
        assert opened(server, "http://house.example:8760")


def test_a_running_reconstruction_shows_its_windows_as_they_come(room, tmp_path, monkeypatch, caplog):
    pytest.importorskip("viser")
    monkeypatch.setattr("qvggt.app.live.wait_for_interrupt", lambda: None)
    told = []
    with live_view(tmp_path / "out", "depth", ViewOptions(port=8700), told.append) as live:
        assert told[0].startswith("http://localhost:")
        viewer = live.viewer
        assert viewer.scene.layers == ()
        live.add(replace(frames_of(room, 0, 1), depth=None))
        assert "no depth" in caplog.text
        live.add(frames_of(room, 0, 3))
        live.add(frames_of(room, 3, 4))
        assert [len(layer.prediction.names) for layer in viewer.scene.layers] == [3, 1]
        assert viewer.scene.shown(0)
        assert viewer.scene.shown(1)
        assert "4 frames so far" in viewer.controls.status.content
        live.finish(Result(tmp_path / "out", room, ResultInfo(drop_percent=50)))
        assert [len(layer.prediction.names) for layer in viewer.scene.layers] == [4]
        assert viewer.controls.look.drop_percent == 50
        assert "9,408 points of 4 frames" in viewer.controls.status.content


def test_two_results_stand_side_by_side_where_a_browser_looks_at_first(room, tmp_path):
    pytest.importorskip("viser")
    results = [Result(tmp_path, room, ResultInfo())] * 2
    with serving(ViewOptions(port=8700)) as server:
        viewer = Viewer(server, ViewOptions(), tmp_path, compare_results(*results))
        viewer.show(results)
        place, target = viewer.start()
        apart = viewer.scene.positions(1)[0] - viewer.scene.positions(0)[0]
        ahead = (target - place) * (1, 1, 0)
        assert abs(apart @ ahead) < 1e-6 * np.linalg.norm(apart) * np.linalg.norm(ahead)
        assert np.cross(ahead, apart)[2] < 0  # to the right
        widths = [np.ptp(viewer.scene.positions(index) @ apart) / np.linalg.norm(apart) for index in (0, 1)]
        assert 0.8 * widths[0] < np.linalg.norm(apart) < 1.2 * widths[0]


def test_sliders_hide_parts_of_the_cloud(room, tmp_path, monkeypatch):
    pytest.importorskip("viser")
    with serving(ViewOptions(port=8700)) as server:
        viewer = Viewer(server, ViewOptions(), tmp_path)
        viewer.show([Result(tmp_path, room, ResultInfo(drop_percent=0))])

        def shown():
            drawn = viewer.scene._drawn[0]
            return sum(len(drawn.parts[name]) for name, cloud in drawn.clouds.items() if cloud.visible)

        count, look = room.depth.size, viewer.scene.look
        assert shown() == len(viewer.scene.visible_points()[0]) == count
        viewer.scene.apply(replace(look, drop_percent=75))
        assert shown() == len(viewer.scene.visible_points()[0]) == pytest.approx(count / 4, rel=0.01)
        viewer.scene.apply(replace(look, level=2))
        assert shown() == pytest.approx(count / 4, rel=0.01)
        viewer.scene.apply(look)
        viewer.scene.refine(1, moving=False)  # from far away
        assert shown() == pytest.approx(count / 8, rel=0.02)
        viewer.scene.refine(4, moving=True)
        assert shown() == count  # few enough
        viewer.scene.apply(replace(look, moving_points=count // 4))
        assert shown() == pytest.approx(count / 4, rel=0.01)
        monkeypatch.setattr("qvggt.app.scene.FEWEST_MOVING", count // 8)
        viewer.scene.refine(4, moving=True, slow=True)
        assert shown() == pytest.approx(count / 8, rel=0.02)
        viewer.scene.refine(4, moving=False, slow=True)
        assert shown() == pytest.approx(count / 4, rel=0.01)
        viewer.scene.refine(4, moving=False)
        assert shown() == count
