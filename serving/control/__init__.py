"""Flags, rules and experiments, which operators change at run time."""
