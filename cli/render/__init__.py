"""How answers are shown: tables, JSON, Go templates, progress."""
