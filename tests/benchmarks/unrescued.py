"""The command line with its straggler handling off, which no option does: `unrescued.py REF DIRECTORY`."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from ecr_async_pull.cli import environment
from ecr_async_pull.model.reference import ImageReference
from ecr_async_pull.orchestrator.pull import pull
from ecr_async_pull.orchestrator.request import ImageRequest, OutputRequest
from ecr_async_pull.progress.events import NoProgress
from ecr_async_pull.settings import PullSettings, TransferSettings


def main() -> int:
    """Returns the exit code."""
    reference, directory = sys.argv[1:]
    image = ImageRequest(reference=ImageReference.parse(reference))
    output = OutputRequest(images=(image,), path=Path(directory, "image.tar"))
    settings = PullSettings(
        state_dir=environment.state_dir(),
        connection=environment.connection_settings(os.environ, plain_http=False),
        transfer=TransferSettings(handles_stragglers=False),
    )
    return asyncio.run(pull([output], settings, environment=os.environ, progress=NoProgress())).exit_code


if __name__ == "__main__":
    sys.exit(main())
