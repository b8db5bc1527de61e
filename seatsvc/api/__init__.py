"""HTTP: the only place besides app.py that knows of it."""
