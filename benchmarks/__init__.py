"""Benchmarks of Muster and the emulated fleet that they run against; nothing of it is part of the product."""
