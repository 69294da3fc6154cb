"""Stored values beside what is expected of them."""
