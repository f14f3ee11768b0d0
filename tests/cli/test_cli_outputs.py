"""Places where nothing can be written, or where something is that must not be lost."""

import pytest
from commands import MODEL, contents


@pytest.fixture(params=["reconstruct", "quantize"])
def command(request, photos):
    """Return a command and its input: what is missing is the output."""
    return [request.param, MODEL, *([photos] if request.param == "reconstruct" else [])]


def test_output_that_is_a_file(refused, command, tmp_path):
    (tmp_path / "out").write_text("precious")
    assert "is a file" in refused(*command, "-o", tmp_path / "out")
    assert "is a file" in refused(*command, "-o", tmp_path / "out", "--overwrite")


def test_output_below_a_file(refused, command, tmp_path):
    (tmp_path / "file").write_text("precious")
    assert "is a file or a broken link" in refused(*command, "-o", tmp_path / "file" / "deep" / "out")


def test_output_in_a_loop_of_links(refused, command, tmp_path):
    (tmp_path / "a").symlink_to(tmp_path / "b")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    assert "circle" in refused(*command, "-o", tmp_path / "a")
    refused(*command, "-o", tmp_path / "a" / "out")


def test_output_that_exists_needs_overwrite(refused, qvggt, command, tmp_path):
    output = tmp_path / "new" / "out"
    assert qvggt(*command, "-o", output).status == 0
    assert "--overwrite" in refused(*command, "-o", output)
    assert qvggt(*command, "-o", output, "--overwrite").status == 0
    (output / "diary.txt").write_text("precious")
    assert qvggt(*command, "-o", output, "--overwrite").status == 0
    assert (output / "diary.txt").read_text() == "precious"
    assert {path.name for path in tmp_path.iterdir()} == {"new", "photos"}
    assert [path.name for path in output.parent.iterdir()] == ["out"]


def test_output_on_a_full_disk(refused, command, mounted):
    disk = mounted("disk", "size=64k")
    sentence = refused(*command, "-o", disk / "deep" / "out")
    assert "the disk is full" in sentence
    assert list(disk.iterdir()) == []


def test_a_replacement_that_does_not_fit_leaves_what_was_there(refused, qvggt, command, mounted):
    disk = mounted("disk", "size=4m")
    assert qvggt(*command, "-o", disk / "out").status == 0
    used = sum(path.stat().st_size for path in disk.rglob("*"))
    (disk / "ballast").write_bytes(bytes((1 << 22) - used - (64 << 10)))
    assert "the disk is full" in refused(*command, "-o", disk / "out", "--overwrite")


def test_files_above_the_size_that_the_system_allows(refused, command, tmp_path):
    resource = pytest.importorskip("resource")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
    try:
        sentence = refused(*command, "-o", tmp_path / "out")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "larger than the system allows" in sentence


def test_output_where_nothing_can_be_written(refused, command, read_only):
    sentence = refused(*command, "-o", read_only / "out")
    assert "read-only" in sentence or "permission" in sentence


@pytest.mark.parametrize("output", ["", "x" * 300], ids=["empty", "long"])
def test_output_with_an_impossible_name(qvggt, command, output):
    done = qvggt(*command, "-o", output)
    assert done.status == 1
    assert done.sentence


@pytest.fixture
def no_work(monkeypatch):
    """Fail if a command starts to compute."""

    def start(*_, **__):
        raise AssertionError("it was computed first")

    for verb in ("reconstruct.load", "quantize.quantize_to", "reconstruct.reconstruct"):
        monkeypatch.setattr(f"qvggt.api.{verb}", start)


@pytest.mark.usefixtures("no_work")
def test_figures_that_cannot_be_written_are_refused_before_the_work(refused, command, tmp_path):
    (tmp_path / "file").write_text("precious")
    for place, reason in ((tmp_path, "is a folder"), (tmp_path / "file" / "x.json", "is a file or a broken link")):
        assert reason in refused(*command, "-o", tmp_path / "out", "--json", place)


@pytest.mark.usefixtures("no_work")
def test_figures_where_nothing_can_be_written_are_refused_before_the_work(refused, command, read_only, tmp_path):
    sentence = refused(*command, "-o", tmp_path / "out", "--json", read_only / "x.json")
    assert "read-only" in sentence or "permission" in sentence


def test_figures_on_a_full_disk(qvggt, command, mounted, tmp_path):
    disk = mounted("disk", "size=64k")
    (disk / "ballast").write_bytes(bytes(64 << 10))
    before = contents(disk)
    done = qvggt(*command, "-o", tmp_path / "out", "--json", disk / "x.json")
    assert "the disk is full" in done.sentence
    assert contents(disk) == before


def test_figures_of_inspect_cannot_be_written(refused, intact_checkpoint, tmp_path):
    assert "is a folder" in refused("inspect", intact_checkpoint, "--json", tmp_path)


def test_figures_may_lie_in_the_output_folder(qvggt, command, tmp_path):
    output = tmp_path / "out"
    assert qvggt(*command, "-o", output, "--json", output / "figures.json").status == 0
    assert (output / "figures.json").is_file()


def visible(folder):
    return {path.name for path in folder.glob("[!.]*")}


@pytest.mark.parametrize(
    ("chosen", "written"),
    [
        (["cameras.json"], {"cameras.json"}),
        (["prediction.npz", "depth"], {"prediction.npz", "depth"}),
        (["points.ply", "overview.png"], {"points.ply", "overview.png"}),
    ],
)
def test_files_choose_what_is_written(qvggt, photos, tmp_path, chosen, written):
    done = qvggt("reconstruct", MODEL, photos, "-o", tmp_path / "out", "--files", *chosen)
    assert done.status == 0
    assert visible(tmp_path / "out") == written | {"result.json"}
    for name in written:
        assert name in done.out


def test_chosen_files_have_the_same_bytes(qvggt, photos, tmp_path):
    assert qvggt("reconstruct", MODEL, photos, "-o", tmp_path / "all").status == 0
    assert qvggt("reconstruct", MODEL, photos, "-o", tmp_path / "one", "--files", "scene.glb").status == 0
    for name in ("scene.glb", "result.json"):
        assert (tmp_path / "all" / name).read_bytes() == (tmp_path / "one" / name).read_bytes()


def test_files_that_do_not_exist_are_no_choice(qvggt, photos, tmp_path):
    done = qvggt("reconstruct", MODEL, photos, "-o", tmp_path / "out", "--files", "points.obj")
    assert done.status == 2
    assert "overview.png" in done.err


def test_files_of_a_result_that_is_scaled(qvggt, photos, tmp_path):
    assert qvggt("reconstruct", MODEL, photos, "-o", tmp_path / "out").status == 0
    scaling = ("scale", tmp_path / "out", "--scale", "p0.jpg:p1.jpg=1m", "-o", tmp_path / "new")
    assert qvggt(*scaling, "--files", "prediction.npz", "cameras.json").status == 0
    assert visible(tmp_path / "new") == {"prediction.npz", "cameras.json", "result.json"}


def test_the_older_name_of_drop_percent(qvggt, photos, tmp_path):
    def points(*options):
        assert qvggt("reconstruct", MODEL, photos, "-o", tmp_path / "out", "--overwrite", *options).status == 0
        return (tmp_path / "out" / "points.ply").read_bytes()

    assert points("--confidence", "60") == points("--drop-percent", "60") != points()
