"""The ground: dtypes, regions, indexing, text, errors, threads, memory."""
