"""What a person with one GPU runs, by way of bench/gpu.sh: checks, times, and their report."""
