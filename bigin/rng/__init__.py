"""What every value is: scalar functions of a counter. No I/O, no arrays, no policy."""
