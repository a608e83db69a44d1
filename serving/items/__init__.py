"""Items as in-process arrays: snapshots of builds, attributes and neighbours."""
