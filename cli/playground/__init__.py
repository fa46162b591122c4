"""`pyswarm playground`: a whole fleet on one machine. Hosts are network and mount namespaces."""
