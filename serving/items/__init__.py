"""Items in process as arrays: snapshots of builds, their attributes and neighbours."""
