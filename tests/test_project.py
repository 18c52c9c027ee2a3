"""What is written in more than one place is the same in each."""

import ast
import re
import subprocess
import sys
import tomllib
import zipfile

import pytest
import yaml
from book_pages import table_of_contents
from bootstrap import ROOT, repository
from packaging.requirements import Requirement

PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PROJECT = PYPROJECT["project"]


def read_yaml(name):
    return yaml.safe_load((ROOT / name).read_text())


def tracked_or_new_files():
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return [ROOT / name for name in listed.stdout.splitlines() if (ROOT / name).is_file()]


def test_the_repository_address_is_the_same_everywhere():
    assert repository() == read_yaml("_config.yml")["repository"]["url"]
    name = repository().rsplit("/", 1)[1]
    address = re.compile(rf"github\.com[/:]([\w.-]+/{name})\b")
    found = set()
    for path in tracked_or_new_files():
        if path.suffix in (".csv", ".npz", ".safetensors", ".png"):
            continue
        found |= {"https://github.com/" + place for place in address.findall(path.read_text())}
    assert found == {repository()}


def test_the_version_is_the_same_everywhere():
    import lth_tutorial

    assert lth_tutorial.__version__ == PROJECT["version"]
    assert str(read_yaml("CITATION.cff")["version"]) == PROJECT["version"]
    assert f"## {PROJECT['version']}" in (ROOT / "CHANGELOG.md").read_text()


def test_ruff_is_the_same_in_pre_commit_and_in_the_test_extra():
    pinned = next(
        str(Requirement(line).specifier)
        for line in PROJECT["optional-dependencies"]["test"]
        if Requirement(line).name == "ruff"
    )
    hook = next(r for r in read_yaml(".pre-commit-config.yaml")["repos"] if "ruff" in r["repo"])
    assert f"=={hook['rev'].removeprefix('v')}" == pinned


def test_every_page_of_the_table_of_contents_has_a_source():
    for name in table_of_contents():
        sources = [ROOT / f"{name}{suffix}" for suffix in (".md", ".ipynb")]
        assert sum(path.is_file() for path in sources) == 1, name


def test_every_chapter_and_every_page_is_in_the_table_of_contents():
    written = [*ROOT.glob("notebooks/*.ipynb"), *ROOT.glob("book/*.md")]
    names = {str(path.relative_to(ROOT).with_suffix("")) for path in written}
    assert names == set(table_of_contents())


def test_binder_gets_every_dependency():
    dependencies = read_yaml("environment.yml")["dependencies"]
    conda = {re.split(r"[<>=!]", line)[0] for line in dependencies if isinstance(line, str)}
    for line in PROJECT["dependencies"]:
        name = Requirement(line).name
        # conda-forge calls the build without CUDA, which is all that fits Binder, pytorch-cpu.
        assert {"torch": "pytorch-cpu"}.get(name, name) in conda
    # Without this line Binder would not install the repository itself.
    assert {"pip": ["-e ."]} in dependencies


def test_citation_names_the_repository():
    assert read_yaml("CITATION.cff")["repository-code"] == repository()


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    return zipfile.ZipFile(next(folder.glob("*.whl")))


def test_the_wheel_holds_every_module_and_all_package_data(wheel):
    package = ROOT / "lth_tutorial"
    files = {
        str(path.relative_to(ROOT))
        for path in package.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert any(name.startswith("lth_tutorial/_data/") for name in files)
    assert files <= set(wheel.namelist())


def test_the_wheel_holds_nothing_but_the_package(wheel):
    assert all(name.startswith(("lth_tutorial/", "lth_tutorial-")) for name in wheel.namelist())


def test_tests_stand_in_the_rooms_of_what_they_test():
    """A file is called after the module that it tests, or after the room."""
    for path in sorted((ROOT / "tests").glob("*/test_*.py")):
        room = ROOT / "lth_tutorial" / path.parent.name
        if path.parent.name in ("benchmarks", "pages"):
            continue
        modules = [each.stem for each in room.glob("*.py")] + [room.name]
        tested = path.stem.removeprefix("test_")
        assert any(tested == m or tested.startswith(f"{m}_") for m in modules), path


def test_a_public_name_stands_in_the_list_of_one_room():
    import lth_tutorial

    (order,) = (
        each["layers"]
        for each in PYPROJECT["tool"]["importlinter"]["contracts"]
        if each["type"] == "layers"
    )
    reached_by_their_room = {"exercises", "plotting", "experiments"}
    listed = ["check", "plotting"]
    for room in reversed(order):
        if room not in reached_by_their_room:
            listed += sys.modules[f"lth_tutorial.{room}"].__all__
    assert listed == lth_tutorial.__all__


def test_the_face_of_each_room_says_what_it_is_for():
    for face in sorted((ROOT / "lth_tutorial").glob("*/__init__.py")):
        document = ast.get_docstring(ast.parse(face.read_text()))
        sentences = re.findall(r"[.?](?=\s|$)", document)
        assert 3 <= len(sentences) <= 8, (face, len(sentences))
