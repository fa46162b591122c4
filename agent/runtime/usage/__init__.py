"""What containers use, read from the files of their cgroups."""
