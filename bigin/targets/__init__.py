"""Where values go. A target is one small class; tests/targets/test_targets.py holds what every one must do."""
