"""Path MTUs: the largest packet that reaches each of the other hosts unfragmented."""
