"""The contracts of every dataplane and its parts, real and in memory."""
