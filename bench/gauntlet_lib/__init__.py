"""What bench/gauntlet is made of. Standard library only; peers.py uses PyTorch where it is installed."""
