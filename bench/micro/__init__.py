"""Benchmarks of the parts: `python -m bench.micro`."""
