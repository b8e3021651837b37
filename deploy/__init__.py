"""Ways to run Muster: on one machine with all it needs (local), with a fake fleet, as services."""
