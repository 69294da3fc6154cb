"""What runs the tasks of a job: a file for each executor."""
