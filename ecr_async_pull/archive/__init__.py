"""What an image archive consists of, byte for byte, and whether one on disk is right."""
