"""Which build of a group last passed its checks."""
