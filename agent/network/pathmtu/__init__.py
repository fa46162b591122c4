"""How large a packet gets to each of the other hosts whole."""
