"""What work runs on: devices, randomness, signals."""
