"""Services' endpoints: what nodes receive, and the stops that wait for acknowledgements."""
