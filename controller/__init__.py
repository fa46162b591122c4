"""The controller: stores what users request and decides which node runs which task."""
