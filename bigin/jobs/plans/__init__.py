"""A job as data: parts that any processes do, on any machines, in any order and as often as they like."""
