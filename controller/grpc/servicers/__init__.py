"""Parts of the Control servicer, each about one subject."""
