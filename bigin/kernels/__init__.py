"""Loops over a block of elements: all the speed is here."""
