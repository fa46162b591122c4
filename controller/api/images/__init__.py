"""What is known of images: where they lie, what they resolve to, and asking nodes for them."""
