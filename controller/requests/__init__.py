"""What users' requests mean: state and request in, writes or views out."""
