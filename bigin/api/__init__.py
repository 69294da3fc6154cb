"""The faces of Python: each is a few lines over a job."""
