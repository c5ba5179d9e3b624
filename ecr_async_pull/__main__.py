"""`python -m ecr_async_pull`."""

from .cli.main import run

if __name__ == "__main__":
    run()
