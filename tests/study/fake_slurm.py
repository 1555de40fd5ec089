"""A stand-in for sbatch and squeue: keeps what is submitted, runs nothing.

Written as executables into a folder of PATH; `queue.json` there maps job id to state, for a test to change.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

SBATCH = """\
#!{python}
import json, pathlib, shutil, sys
here = pathlib.Path(__file__).parent
queue = json.loads((here / "queue.json").read_text())
number = str(101 + len(list(here.glob("job-*.sh"))))
shutil.copy(sys.argv[-1], here / f"job-{{number}}.sh")
queue[number] = "PENDING"
(here / "queue.json").write_text(json.dumps(queue))
print(f"Submitted batch job {{number}}")
"""
SQUEUE = """\
#!{python}
import json, pathlib
here = pathlib.Path(__file__).parent
for number, state in json.loads((here / "queue.json").read_text()).items():
    print(number, state)
"""


class FakeSlurm:
    """The queue, and the batch files that were submitted."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        for name, text in (("sbatch", SBATCH), ("squeue", SQUEUE), ("srun", "#!/bin/sh\n")):
            (folder / name).write_text(text.format(python=sys.executable))
            (folder / name).chmod(0o755)
        self.clear()

    def clear(self) -> None:
        """Every job leaves the queue."""
        (self.folder / "queue.json").write_text("{}")

    def submitted(self) -> dict[str, str]:
        """Job id -> its batch file, in the order of submission."""
        return {
            path.stem.removeprefix("job-"): path.read_text()
            for path in sorted(self.folder.glob("job-*.sh"))
        }

    def queue(self) -> dict[str, str]:
        """Job id -> state."""
        content: dict[str, str] = json.loads((self.folder / "queue.json").read_text())
        return content
