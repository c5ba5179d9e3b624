"""What lies on disk between runs: staging, journal, cache, records."""
