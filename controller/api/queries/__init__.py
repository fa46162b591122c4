"""What users ask: state and question in, views out."""
