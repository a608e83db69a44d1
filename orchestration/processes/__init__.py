"""Processes that run beside this one."""
