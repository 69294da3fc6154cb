"""Where values go. A target is one small class; tests/test_targets.py holds what every one must do."""
