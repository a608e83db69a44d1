"""What operators change at run time: flags, rules, experiments."""
