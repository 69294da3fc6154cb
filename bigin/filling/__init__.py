"""Where numbers and policy meet: what to draw, over which regions, and what runs it."""
