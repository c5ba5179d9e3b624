"""What a registry says: pure values, no I/O, no async."""
