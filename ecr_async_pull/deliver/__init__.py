"""How a finished archive gets to where it was wanted."""
