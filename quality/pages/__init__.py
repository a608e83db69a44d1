"""Pages and plots of checks and drift: static HTML that people read."""
