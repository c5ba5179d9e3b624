"""The command line: parsing -> settings -> orchestrator -> text and exit code."""
