"""Recipes: which tensor of a model gets which method, read from TOML."""
