"""One spec, one target and limits, opened together."""
