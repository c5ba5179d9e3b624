"""Runs the pipe: owns every resource of a pull, bounds it, and reports what came of it."""
