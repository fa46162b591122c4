"""What every dataplane and each of its parts keep, those of the kernel and those in memory."""
