"""Pages of sessions and nodes."""
