"""What a target holds, for people: an overview, on the terminal and as a picture."""
