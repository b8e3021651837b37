"""Nodes that exist only as processes: the emulator of their BMCs, and what they do when switched on."""
