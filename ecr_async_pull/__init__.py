"""Pull container images out of AWS ECR without Docker."""

__version__ = "0.1.0"
