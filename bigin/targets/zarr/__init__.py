"""zarr arrays and groups. zarr is imported here alone."""
