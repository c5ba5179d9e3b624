"""How a pull shows itself: a protocol of deltas, and the displays that implement it."""
