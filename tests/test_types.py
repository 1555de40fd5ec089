"""pyright in strict mode accepts the public interface from outside: types and examples."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import leadspan

ROOT = Path(__file__).resolve().parents[1]
PYRIGHT = shutil.which("basedpyright", path=str(Path(sys.executable).parent))
pytestmark = pytest.mark.skipif(PYRIGHT is None, reason="basedpyright is not installed (extra dev)")

STRICT = {
    "typeCheckingMode": "strict",
    "pythonVersion": "3.11",
    # What torch, transformers and datasets leave untyped; ours is held by test_every_public_type_is_known.
    "reportMissingTypeStubs": False,
    "reportUnknownMemberType": False,
    "reportUnknownVariableType": False,
    "reportUnknownArgumentType": False,
}
UNTYPED_BASE = ".LeadSpanTrainer"
"""transformers.Trainer, whose type is hidden by its own untyped decorator."""
WRONG = """
from leadspan import distill, load_traces, render
from leadspan.losses import fused_linear_kd

render(load_traces("traces.jsonl"))
print(distill([], student="student", output="out").student)
fused_linear_kd(1, 2, 3)
"""


def pyright(folder: Path, *arguments: str) -> dict[str, Any]:
    """Run it on a folder that has its own settings, as a user's project does; its JSON.

    `--verifytypes` does not follow the link of an editable installation, so it is given the path.
    """
    assert PYRIGHT is not None
    source = Path(leadspan.__file__).parents[1]
    done = subprocess.run(
        [PYRIGHT, "--pythonpath", sys.executable, "--outputjson", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(source)},
        capture_output=True,
        text=True,
        check=False,
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def errors_in(folder: Path, code: str) -> list[str]:
    (folder / "pyrightconfig.json").write_text(json.dumps(STRICT))
    (folder / "theirs.py").write_text(code)
    found = pyright(folder, ".")
    assert found["summary"]["filesAnalyzed"] == 1
    return [
        f"{each['range']['start']['line'] + 1}: {each['message']}"
        for each in found["generalDiagnostics"]
    ]


def readme_code() -> str:
    return "".join(re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL))


def test_the_readme_is_typed(tmp_path: Path) -> None:
    code = readme_code()
    assert "leadspan" in code
    names = ("student", "teacher", "args", "rows", "tokenizer")  # of the reader's own script
    own = "".join(f"{name}: Any = None\n" for name in names)
    assert errors_in(tmp_path, f"from typing import Any\n{own}{code}") == []


@pytest.mark.parametrize("name", ["own_loop.py", "hf_trainer.py"])
def test_an_example_is_typed(name: str, tmp_path: Path) -> None:
    code = (ROOT / "examples" / name).read_text()
    assert errors_in(tmp_path, code) == []


def test_wrong_calls_are_refused(tmp_path: Path) -> None:
    found = errors_in(tmp_path, WRONG)
    assert {line.split(":")[0] for line in found} == {"5", "6", "7"}


def test_every_public_type_is_known(tmp_path: Path) -> None:
    found = pyright(tmp_path, "--verifytypes", "leadspan", "--ignoreexternal")
    symbols = {each["name"]: each for each in found["typeCompleteness"]["symbols"]}
    public = {f"leadspan.{name}" for name in leadspan.__all__}
    public |= {
        f"{value.__module__}.{name}"
        for name, value in vars(leadspan.losses).items()
        if name in leadspan.losses.__all__
    }
    for name in leadspan.__all__:
        value = getattr(leadspan, name)
        public.add(f"{getattr(value, '__module__', 'leadspan')}.{name}")
    assert len(public & symbols.keys()) > len(leadspan.__all__)
    unknown = {
        name: [each["message"] for each in symbol["diagnostics"]]
        for name, symbol in symbols.items()
        if not name.endswith(UNTYPED_BASE)
        and not symbol["isTypeKnown"]
        and (name in public or name.rpartition(".")[0] in public)
    }
    assert unknown == {}
