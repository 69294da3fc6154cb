"""What a tensor's values are, and the record of it."""
