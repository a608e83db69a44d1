"""From a build to the online store."""
