"""Measures the service against what its framework and its database could do at best."""
