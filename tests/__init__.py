"""Tests meet the same real servers as `make run`."""
