"""Whether distributions and rates have left their reference window."""
