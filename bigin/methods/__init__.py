"""What a user asks for: a method's name and parameters become a distribution and its numbers."""
