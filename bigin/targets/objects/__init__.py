"""Objects of stores on a network: S3, GCS, Azure, and what fsspec reads."""
