"""Garbage collection of the images of this host: by age, and when the disk fills up."""
