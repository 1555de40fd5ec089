"""Upload a finished run's student to the Hugging Face hub, with its card.

The token is the hub's own: HF_TOKEN, or what `hf auth login` has saved.
"""

from __future__ import annotations

import re
from pathlib import Path

from leadspan.errors import ConfigError, RunError
from leadspan.integrity import CHECKSUMS_FILE, check_checksums
from leadspan.runs import RunFolder

CARD = "README.md"
REPO = re.compile(r"[\w.-]+/[\w.-]+")


def check_repo(repo: str) -> None:
    """Check the name of a repository.

    Raises:
        ConfigError: It is not one of the hub's.
    """
    if not REPO.fullmatch(repo):
        raise ConfigError(f"--repo must be user/name; got {repo!r}. Put your user name before it.")


def files_to_push(run: Path, adapter: bool = False) -> dict[str, Path]:
    """What goes to the hub, by its name there: the model or the adapter, and the card.

    The checksums stay here: the hub has its own, and a file may be changed there.

    Raises:
        RunError: The run is not finished, has no adapter, or its files are damaged.
    """
    folder = RunFolder(run)
    if not folder.is_complete:
        raise RunError(
            f"{run}: must be the folder of a finished run. Finish it: leadspan show {run}"
        )
    source = run / "adapter" if adapter else folder.student_path
    if not source.is_dir():
        raise RunError(
            f"{source}: is not there. Only a run with student.lora has an adapter; push without --adapter."
        )
    check_checksums(source)
    files = {CARD: folder.student_path / CARD}
    files |= {str(path.relative_to(source)): path for path in source.rglob("*")}
    return {
        name: path
        for name, path in sorted(files.items())
        if path.is_file() and name != CHECKSUMS_FILE
    }


def push_files(files: dict[str, Path], repo: str, private: bool = False) -> str:
    """Create the repository if it is new, and upload the files in one commit.

    Returns:
        The address of the commit.

    Raises:
        RunError: The hub refuses, or cannot be reached.
    """
    from huggingface_hub import CommitOperationAdd, HfApi
    from huggingface_hub.errors import HfHubHTTPError

    api = HfApi()
    additions = [CommitOperationAdd(name, path) for name, path in files.items()]
    try:
        api.create_repo(repo, private=private or None, exist_ok=True)
        commit = api.create_commit(repo, additions, commit_message="Upload a student of leadspan")
    except HfHubHTTPError as error:
        status = error.response.status_code
        said = " ".join(str(error.server_message or error.response.reason_phrase).split())
        what = (
            "Log in with a token that may write: hf auth login, or HF_TOKEN"
            if status in (401, 403)
            else "Try again later"
        )
        raise RunError(f"{repo}: the hub refused with status {status} ({said}). {what}.") from None
    except Exception as error:  # connection errors differ with the hub library's HTTP client
        reason = " ".join(str(error).split())[:200]
        raise RunError(f"{repo}: the upload failed ({type(error).__name__}: {reason}).") from None
    return str(commit.commit_url)
