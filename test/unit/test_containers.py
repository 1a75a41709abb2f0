"""Images, dev container, workflow and commit hooks say what the rest of the project says; none of them runs here."""

import ast
import json
import re
import shlex
import subprocess
from fnmatch import fnmatch
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
WORKFLOW = ROOT / ".github" / "workflows" / "ci.yml"
DOCKERFILE = (ROOT / "Dockerfile").read_text()
IGNORED = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and line[0] != "#"]
JOBS = yaml.safe_load(WORKFLOW.read_text())["jobs"]
STEPS = {name: job["steps"] for name, job in JOBS.items()}
HOOKS = [
    hook for repo in yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"] for hook in repo["hooks"]
]
DEV_CONTAINER = json.loads((ROOT / ".devcontainer" / "devcontainer.json").read_text())
DISTROS = ["humble", "jazzy", "kilted"]
INSTALLED_FOLDERS = ("action", "cmake", "config", "deepverse_ros", "launch", "models", "msg", "srv", "tools")
READ_FILES = ("CMakeLists.txt", "Makefile", "package.xml", "requirements.txt", "requirements-dev.txt")


def commands(job: str) -> list[str]:
    """What the steps of a job run."""
    return [step["run"] for step in STEPS[job] if "run" in step]


def instructions(name: str) -> list[str]:
    """The arguments of the Dockerfile's instructions of this name, each on one line."""
    joined = re.sub(r"\\\n", " ", re.sub(r"^#.*\n", "", DOCKERFILE, flags=re.MULTILINE))
    return re.findall(rf"^{name} +(.*)$", joined, re.MULTILINE)


def stages() -> dict[str, str]:
    """Name of each stage to what it stands on, in order."""
    return {name: base for base, name in (line.split(" AS ") for line in instructions("FROM"))}


def texts() -> dict[str, str]:
    """Whatever is run, by the file that says it: commands, not comments."""
    docs = (ROOT / "docs" / "containers.md").read_text()
    return {
        ".github/workflows/ci.yml": "\n".join(command for job in JOBS for command in commands(job)),
        ".pre-commit-config.yaml": "\n".join(hook["entry"] for hook in HOOKS),
        ".devcontainer/devcontainer.json": DEV_CONTAINER["postCreateCommand"],
        "Dockerfile": "\n".join(instructions("RUN")),
        "docs/containers.md": "\n".join(
            re.findall(r"```bash\n(.*?)```", docs, re.DOTALL) + re.findall(r"`([^`\n]+)`", docs)
        ),
    }


def is_left_out(path: Path) -> bool:
    """Whether .dockerignore keeps a path of the repository, or a folder above it, from the build."""
    names = [path, *path.parents][:-1]
    return any(
        fnmatch(name.name, pattern[3:]) if pattern.startswith("**/") else fnmatch(str(name), pattern)
        for name in names
        for pattern in IGNORED
    )


@pytest.mark.parametrize("file", list(texts()))
def test_every_make_target_exists(file: str) -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    used = set(re.findall(r"\bmake ([a-z]+)", texts()[file]))
    assert used <= targets
    assert used or file == "docs/containers.md"


@pytest.mark.parametrize("file", list(texts()))
def test_every_file_that_is_named_exists(file: str) -> None:
    pattern = r"(?<![\w./*-])((?:tools|test|docs|config|launch)/[\w./*-]+|requirements[\w*-]*\.txt|package\.xml)"
    whole = (ROOT / file).read_text()
    assert [name for name in set(re.findall(pattern, whole)) if not list(ROOT.glob(name.rstrip(".")))] == []


def test_the_workflow_builds_on_the_distributions_that_are_promised() -> None:
    promised = re.search(r"setup\.bash`; (\w+), (\w+), (\w+) or newer", (ROOT / "CONTRIBUTING.md").read_text())
    assert promised
    assert [name.lower() for name in promised.groups()] == DISTROS
    assert "(Humble to Kilted)" in (ROOT / "README.md").read_text()
    assert JOBS["installed"]["strategy"]["matrix"]["distro"] == DISTROS
    assert JOBS["installed"]["container"]["image"] == "ros:${{ matrix.distro }}-ros-base"


def test_the_workflow_runs_what_ci_runs() -> None:
    wanted = re.findall(r"^make [a-z]+", (ROOT / ".ci" / "run").read_text(), re.MULTILINE)
    assert [re.match(r"make [a-z]+", c)[0] for c in commands("pypi") if c.startswith("make")] == wanted
    (python,) = (step["with"]["python-version"] for step in STEPS["pypi"] if "setup-python" in step.get("uses", ""))
    assert (
        f"sys.version_info[:2] == ({python.replace('.', ', ')})"
        in (ROOT / "tools/ros_from_pypi/system_tools.py").read_text()
    )


def test_the_workflow_may_only_read_and_ends() -> None:
    assert yaml.safe_load(WORKFLOW.read_text())["permissions"] == {"contents": "read"}
    for name, job in JOBS.items():
        assert "permissions" not in job
        assert job["timeout-minutes"] <= 120, name
        for step in job["steps"]:
            assert re.fullmatch(r"actions/[a-z-]+@v\d+", step.get("uses", "actions/none@v0"))


def test_hooks_fetch_nothing_and_check_as_lint_does() -> None:
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())
    assert [repo["repo"] for repo in config["repos"]] == ["local"]
    assert {hook["language"] for hook in HOOKS} == {"system", "pygrep"}
    lint = (ROOT / "tools" / "lint.sh").read_text()
    tools = re.findall(r"\.ros/venv/bin/(\w+ \w+)", texts()[".pre-commit-config.yaml"])
    assert tools == ["ruff format", "ruff check"]
    assert all(f"check {tool} " in lint for tool in tools)


def test_the_hook_refuses_large_files(tmp_path: Path) -> None:
    (entry,) = (shlex.split(hook["entry"]) for hook in HOOKS if hook["id"] == "large-files")
    small, large = tmp_path / "a small file", tmp_path / "a large file"
    small.write_bytes(b"1")
    large.write_bytes(bytes(2 << 20))
    assert subprocess.run([*entry, str(small)], check=False).returncode == 0
    refused = subprocess.run([*entry, str(small), str(large)], capture_output=True, text=True, check=False)
    assert (refused.returncode, refused.stdout.strip()) == (1, str(large))


@pytest.mark.parametrize(
    ("hook", "bad", "good"),
    [
        ("trailing-blanks", ["text ", "text\t", " "], ["text", ""]),
        ("merge-markers", ["<<<<<<< ours", ">>>>>>> theirs"], ["=======", "x <<<<<<< y", ">>> python"]),
    ],
)
def test_the_hooks_patterns(hook: str, bad: list[str], good: list[str]) -> None:
    (entry,) = (h["entry"] for h in HOOKS if h["id"] == hook)
    assert all(re.search(entry, line) for line in bad)
    assert not any(re.search(entry, line) for line in good)


def test_every_stage_is_known_and_the_runtime_has_no_compiler_of_its_base() -> None:
    assert list(stages()) == ["development", "build", "runtime"]
    assert stages()["build"] == "development"
    assert stages()["runtime"] == "ros:${ROS_DISTRO}-ros-core"
    assert instructions("ARG")[0] in [f"ROS_DISTRO={distro}" for distro in DISTROS]
    assert DEV_CONTAINER["build"]["target"] in stages()
    assert DEV_CONTAINER["build"]["args"]["ROS_DISTRO"] in DISTROS
    arguments = {line.split("=")[0] for line in instructions("ARG")}
    given = set(re.findall(r"--build-arg (\w+)=", texts()["docs/containers.md"]))
    assert {*DEV_CONTAINER["build"]["args"], *given} <= arguments
    # bash keeps UID for itself: a build argument of that name would say nothing.
    assert not arguments & {"UID", "EUID", "PPID"}


def test_nobody_in_the_images_is_root() -> None:
    runtime = DOCKERFILE.split(" AS runtime")[1]
    assert re.findall(r"^USER (.*)", runtime, re.MULTILINE) == ["${USER_ID}"]
    assert f" {DEV_CONTAINER['remoteUser']} " in f"{instructions('RUN')[2]} "


def test_what_is_copied_exists_and_is_not_left_out() -> None:
    for arguments in instructions("COPY"):
        words = arguments.split()
        if words[0].startswith("--from="):
            assert words[0].removeprefix("--from=") in stages()
            continue
        for source in words[:-1]:
            assert (ROOT / source).exists(), source
            assert not is_left_out(Path(source)), source


def test_the_build_gets_all_that_it_reads() -> None:
    files = [path for folder in INSTALLED_FOLDERS for path in (ROOT / folder).rglob("*") if path.is_file()]
    files = [path for path in files if "__pycache__" not in path.parts] + [ROOT / name for name in READ_FILES]
    assert [str(path) for path in files if is_left_out(path.relative_to(ROOT))] == []


def test_what_git_ignores_stays_out_of_the_build() -> None:
    """Above all an environment and a build of the machine, which would shadow those of the image."""
    assert not any(pattern.startswith("!") for pattern in IGNORED)  # is_left_out reads none
    lines = [line for line in (ROOT / ".gitignore").read_text().splitlines() if line and line[0] != "#"]
    assert [line for line in lines if not {line.strip("/"), f"**/{line.strip('/')}"} & set(IGNORED)] == []


def test_what_renders_is_installed_everywhere() -> None:
    source = (ROOT / "tools" / "ros_from_pypi" / "system_tools.py").read_text()
    wanted = set(ast.literal_eval(re.search(r"RENDER_PACKAGES = (.*)", source)[1]))
    installing = [run for run in instructions("RUN") if "libegl1" in run] + [c for c in commands("pypi") if "apt" in c]
    assert len(installing) == 3
    assert all(wanted <= set(run.split()) for run in installing)


def test_the_entry_point_sources_what_was_built() -> None:
    script = ROOT / "tools" / "docker_entrypoint.sh"
    assert script.stat().st_mode & 0o111
    built = DOCKERFILE.split(" AS build")[1].split("FROM")[0]
    (folder,) = re.findall(r"^WORKDIR (.*)", built, re.MULTILINE)
    assert f"source {folder}/install/setup.bash" in script.read_text()
    assert f"COPY --from=build {folder} {folder}\n" in DOCKERFILE  # the environment holds absolute paths
    assert json.loads(instructions("ENTRYPOINT")[0]) == ["/entrypoint.sh"]
    *_, package, launch_file = json.loads(instructions("CMD")[0])
    assert package == "deepverse_ros"
    assert (ROOT / "launch" / launch_file).is_file()


def test_the_page_is_found() -> None:
    assert "(docs/containers.md)" in (ROOT / "CONTRIBUTING.md").read_text()
