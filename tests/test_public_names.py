"""What `import leadspan` offers: every name is there, typed, and nothing heavy is loaded for it."""

from __future__ import annotations

import pydoc
import re
import subprocess
import sys
from pathlib import Path

import leadspan

SOURCE = Path(leadspan.__file__).read_text(encoding="utf-8")


def test_every_public_name_can_be_had_and_is_typed() -> None:
    typed = set(re.findall(r"import \w+ as (\w+)", SOURCE))
    assert typed == set(leadspan.__all__) - {"__version__"}
    for name in typed:
        assert getattr(leadspan, name).__name__.removeprefix("leadspan.") == name
        assert getattr(leadspan, name).__doc__


def test_a_shell_lists_the_public_names_and_nothing_else() -> None:
    assert set(dir(leadspan)) == set(leadspan.__all__)
    assert {"distill", "evaluate", "losses", "Trace", "TrainedRun"} <= set(dir(leadspan))
    assert not {"import_module", "Any", "annotations"} & set(dir(leadspan))


def test_help_explains_distill() -> None:
    text = pydoc.render_doc(leadspan.distill, renderer=pydoc.plaintext)
    assert "function distill in module leadspan.training.distill" in text.splitlines()[0]
    for part in ("student: ", "Returns:", "Raises:", "Example:", "-> 'TrainedRun'"):
        assert part in text


def test_the_import_is_light() -> None:
    code = "import leadspan, sys; print({'torch', 'transformers', 'pydantic'} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
