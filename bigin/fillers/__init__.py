"""From a distribution to what makes the values of any region."""
