"""What a user was promised, asked of a real fleet through the real command."""
