"""The scripts of examples/ run as they stand, and so does the notebook, whose pictures are stored in it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from transformers import AutoModelForCausalLM

from leadspan.world.build import World, WorldConfig, build_world
from tests.teachers.scoring_stub import Stub

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = ROOT / "examples"
NOTEBOOK = EXAMPLES / "tour.ipynb"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return build_world(tmp_path_factory.mktemp("world") / "w", seed=1, config=WorldConfig.small())


def run_example(name: str, *arguments: str | Path) -> str:
    """What the script prints; it is the same process as a user's."""
    done = subprocess.run(
        [sys.executable, EXAMPLES / name, *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


@pytest.mark.slow
def test_on_policy(world: World, tmp_path: Path) -> None:
    said = run_example("on_policy.py", world.path, tmp_path / "run", "--steps", "4")
    before, after = (float(each) for each in re.findall(r"accuracy ([\d.]+)", said))
    assert 0.2 < before < 0.8
    assert 0.0 <= after <= 1.0
    assert len((tmp_path / "run" / "run" / "rollouts.jsonl").read_text().splitlines()) == 4 * 12


@pytest.mark.slow
def test_teacher_server(world: World, tmp_path: Path) -> None:
    pytest.importorskip("openai")
    server = Stub(AutoModelForCausalLM.from_pretrained(world.teacher).eval())
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        url = f"http://127.0.0.1:{server.server_port}/v1"
        said = run_example(
            "teacher_server.py", world.path, tmp_path / "run", url, "big", "--steps", "4"
        )
    finally:
        server.shutdown()
        server.server_close()
    assert re.fullmatch(r"accuracy [\d.]+ \[[\d.]+, [\d.]+\]", said.strip())
    assert len(server.bodies) > 4 * 12 - 1


@pytest.mark.slow
def test_the_notebook_runs_and_shows_that_a_fifth_teaches_less_than_the_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nbformat = pytest.importorskip("nbformat")
    nbclient = pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "src"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    client = nbclient.NotebookClient(
        notebook, timeout=800, resources={"metadata": {"path": str(tmp_path)}}
    )
    client.execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    text = "".join(output.get("text", "") for output in outputs)
    scores = dict(re.findall(r"^(\S+) +([\d.]+) \[", text, re.MULTILINE))
    assert float(scores["1.0"]) > float(scores["untrained"]) + 0.2
    assert float(scores["1.0"]) > float(scores["0.2"]) + 0.2
    assert any("image/png" in output.get("data", {}) for output in outputs)


def test_the_notebook_is_stored_with_its_outputs_and_nothing_of_a_machine() -> None:
    nbformat = pytest.importorskip("nbformat")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell for cell in code if not cell.outputs and "import io" not in cell.source] == []
    kinds = {kind for cell in code for out in cell.outputs for kind in out.get("data", {})}
    assert {"image/png", "text/html"} <= kinds
    assert not re.search(r"site-packages|/home/|/tmp/|Warning", NOTEBOOK.read_text("utf-8"))


def test_every_example_is_in_the_table() -> None:
    table = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    files = {path.name for path in EXAMPLES.iterdir() if path.suffix in (".py", ".ipynb")}
    assert files == set(re.findall(r"\]\(([\w.]+)\)", table))
