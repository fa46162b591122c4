"""What is decided: which tasks there should be, where they run, what is unique. PURE."""
