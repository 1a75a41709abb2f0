"""Files are found in the working directory, an explicit folder, a checkout and a ROS install."""

from contextlib import nullcontext
from pathlib import Path

import pytest

from deepverse_ros import resources
from deepverse_ros.errors import ResourceError
from deepverse_ros.robot.embodiment import Embodiment


@pytest.fixture
def share(tmp_path, monkeypatch):
    """A share folder elsewhere, and a working directory that holds nothing."""
    folder = tmp_path / "share" / "deepverse_ros"
    (folder / "config" / "embodiments").mkdir(parents=True)
    (folder / "models").mkdir()
    (folder / "models" / "only_here").touch()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    monkeypatch.delenv("DEEPVERSE_SHARE", raising=False)
    monkeypatch.delenv("AMENT_PREFIX_PATH", raising=False)
    return folder


def test_shipped_files_are_found_from_any_working_directory(share):
    path = resources.find("config/embodiments/arm.yaml")
    assert path.is_absolute()
    assert path.is_file()


def test_an_explicit_share_folder(share, monkeypatch):
    with pytest.raises(ResourceError):
        resources.find("models/only_here")
    monkeypatch.setenv("DEEPVERSE_SHARE", str(share))
    assert resources.find("models/only_here") == share / "models" / "only_here"


def test_a_ros_install_is_looked_at(share, monkeypatch):
    monkeypatch.setenv("AMENT_PREFIX_PATH", f"/nowhere:{share.parent.parent}")
    assert resources.find("models/only_here") == share / "models" / "only_here"


def test_a_name_is_the_packages_whatever_lies_in_the_working_directory(share, monkeypatch):
    monkeypatch.setenv("DEEPVERSE_SHARE", str(share))
    Path("models").mkdir()
    Path("models/only_here").touch()
    with pytest.warns(UserWarning, match=r"share/deepverse_ros/models/only_here of the package.*\./models/only_here"):
        assert resources.find("models/only_here") == share / "models" / "only_here"
    assert resources.find("./models/only_here") == Path.cwd() / "models" / "only_here"
    with pytest.raises(ResourceError, match="nowhere"):
        resources.find("./config/nowhere.yaml")


def test_a_file_of_the_working_directory_must_not_hide_the_packages_robot(share):
    own = Path("config/embodiments")
    own.mkdir(parents=True)
    (own / "arm.yaml").write_text("name: another\n")
    with pytest.warns(UserWarning, match="of the package"):
        assert Embodiment.load("arm").name == "arm"


def test_what_only_the_working_directory_has_needs_no_dot(share):
    Path("runs/mine/checkpoint").mkdir(parents=True)
    assert resources.find("runs/mine/checkpoint") == Path.cwd() / "runs/mine/checkpoint"


@pytest.mark.parametrize("name", ["", "models/" + "x" * 5000, "models/\0"])
def test_no_name_ends_in_an_error_of_the_system(share, name):
    with pytest.raises(ResourceError) if name else nullcontext():
        resources.find(name)


def test_absolute_paths_are_taken_as_they_are(share):
    assert resources.find(share / "models" / "only_here") == share / "models" / "only_here"


def test_what_is_missing_is_named_with_where_it_was_looked_for(share):
    with pytest.raises(ResourceError, match=r"models/absent: not found; looked at .*elsewhere.*DEEPVERSE_SHARE"):
        resources.find("models/absent")
    with pytest.raises(ResourceError, match="/absent/file"):
        resources.find("/absent/file")
