"""The README as a program: its fenced blocks, in order, and the shell script that they make up.

`console` blocks hold `$ command` lines (`> ` goes on) with the standard output under them, or the error where
the command fails. `sh`, `python`, `yaml` and `json` blocks are run or read as such; `text` is for what can't
be run here.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass, field
from pathlib import Path

README = Path(__file__).resolve().parents[2] / "README.md"
LANGUAGES = {"console", "sh", "python", "yaml", "json", "text"}
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """`line`: where it begins in the file, from 1; `heading` is what it stands under."""

    language: str
    text: str
    line: int
    heading: str


@dataclass(slots=True, kw_only=True)
class Step:
    """One command of a `console` block with the output shown, or a whole `sh` block (`shown` None)."""

    command: str
    line: int
    shown: list[str] | None = field(default_factory=list)

    @property
    def name(self) -> str:
        return f"line {self.line}: {self.command.splitlines()[0][:60]}"


def blocks(text: str) -> list[Block]:
    found = []
    for match in _FENCE.finditer(text):
        before = text[: match.start()]
        headings = re.findall(r"^#+ (.*)$", _FENCE.sub("", before), re.MULTILINE)
        found.append(
            Block(
                language=match[1],
                text=match[2],
                line=before.count("\n") + 2,
                heading=headings[-1] if headings else "",
            )
        )
    return found


def steps(text: str) -> list[Step]:
    """Everything that a shell runs, in the order of the file."""
    found: list[Step] = []
    for block in blocks(text):
        if block.language == "sh":
            found.append(Step(command=block.text, line=block.line, shown=None))
        elif block.language == "python":
            program = f"python3 - <<'END_OF_EXAMPLE'\n{block.text}END_OF_EXAMPLE\n"
            found.append(Step(command=program, line=block.line, shown=None))
        elif block.language == "console":
            found += _console(block)
    return found


def _console(block: Block) -> list[Step]:
    found: list[Step] = []
    for number, line in enumerate(block.text.splitlines(), block.line):
        if line.startswith("$ "):
            found.append(Step(command=line[2:], line=number))
        elif line.startswith("> ") and found and not found[-1].shown:
            found[-1].command += "\n" + line[2:]
        else:
            assert found, f"line {number}: output without a command"
            shown = found[-1].shown
            assert shown is not None
            shown.append(line)
    return found


def script(found: list[Step], record: Path) -> str:
    """One bash script, every step in the same shell; N.out, N.err and N.code in `record` tell what came."""
    parts = []
    for number, step in enumerate(found):
        at = shlex.quote(str(record / str(number)))
        run = f"{{ {step.command}\n}} >{at}.out 2>{at}.err </dev/null\ncode=$?\n"
        if step.shown is None:
            run = f"set -e\n{run}set +e\n"
        parts.append(f"{run}echo $code >{at}.code\n(exit $code)\n")  # for a next step that asks for $?
    return "".join(parts)


_CHANGING = (
    (re.compile(r"\b[0-9a-f]{64}\b"), "HEX"),
    (re.compile(r"\.ecr-async-pull-[0-9a-f]{16}(-[0-9a-f]{8})?"), ".ecr-async-pull-HEX"),
    (re.compile(r"\b[0-9a-f]{12}\b"), "SHORT"),
    (re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d"), "WHEN"),
    (re.compile(r"\b[0-9.]+ (B|kB|MB|GB)(/s)?"), "SIZE"),
    (re.compile(r"\b([0-9]+ s|[0-9]+:[0-9]{2}(:[0-9]{2})?)(?![0-9:])"), "TIME"),
    (re.compile(r"linux/(amd64|arm64)"), "linux/CPU"),
    (re.compile(r"(?<![\w.])/\S+/(?=cache\b)"), "DIR/"),
    (re.compile(r" {2,}"), "  "),
)


def normal(text: str) -> str:
    """`text` without what changes from run to run or from machine to machine."""
    for pattern, word in _CHANGING:
        text = pattern.sub(word, text)
    return "\n".join(line.rstrip() for line in text.strip().splitlines())
