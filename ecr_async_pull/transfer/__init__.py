"""The engine: bounded ranges in, verified bytes out."""
