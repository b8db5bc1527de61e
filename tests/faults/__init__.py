"""Faults of every kind under load, and the checker that says what they broke."""
