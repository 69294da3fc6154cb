"""Records what a model's own code does to its parameters, and says it as specifications of their values."""
