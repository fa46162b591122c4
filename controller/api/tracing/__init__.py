"""Following the way from one task to another: who is meant, and what each hop's facts mean."""
