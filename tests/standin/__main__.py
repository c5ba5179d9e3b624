"""`python -m tests.standin demo` and `python -m tests.standin serve`."""

from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path

from . import demo
from .machine_image import MIB, Shape


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.standin", description=__doc__)
    parser.add_argument("command", choices=["demo", "serve"])
    parser.add_argument("--dir", type=Path, default=Path(".demo"), help="where the image is kept")
    parser.add_argument("--size-mib", type=int, default=160, help="of all layers, inflated")
    parser.add_argument("--layers", type=int, default=6)
    options = parser.parse_args()
    shape = Shape(total_tar_bytes=options.size_mib * MIB, layers=options.layers)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    return (demo.run if options.command == "demo" else demo.serve)(options.dir, shape)


if __name__ == "__main__":
    sys.exit(main())
