"""Which worker of a fleet this is: the option, and what Kubernetes and AWS Batch tell their workers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..model.shard import Shard

_INDEX_VARIABLES = ("JOB_COMPLETION_INDEX", "AWS_BATCH_JOB_ARRAY_INDEX")
_COUNT_VARIABLES = ("JOB_COMPLETIONS", "AWS_BATCH_JOB_ARRAY_SIZE")
_AUTO = "auto"


def shard_of(text: str | None, environment: Mapping[str, str]) -> Shard | None:
    """`INDEX/COUNT`; `auto/COUNT` or `/COUNT` with the index of the job's environment; `auto` both of them.

    Kubernetes tells an Indexed Job's worker its index only, AWS Batch both. Raises `UsageError`.
    """
    from ..model.shard import Shard

    if text is None:
        return None
    index, slash, count = text.strip().partition("/")
    if index in ("", _AUTO) and (slash or index):
        index = _told(environment, _INDEX_VARIABLES, f"--shard {text} takes its index from the environment")
        if not slash:
            count = _told(
                environment,
                _COUNT_VARIABLES,
                f"--shard {text} takes its count from the environment, as AWS Batch sets it; on Kubernetes"
                " write --shard auto/COUNT",
            )
        return Shard.parse(f"{index}/{count}")
    return Shard.parse(text)


def _told(environment: Mapping[str, str], variables: tuple[str, ...], why: str) -> str:
    from ..errors import UsageError

    for name in variables:
        if environment.get(name):
            return environment[name]
    raise UsageError(f"{why}, but neither {' nor '.join(variables)} is set; write --shard INDEX/COUNT")
