"""Services' virtual addresses inside tasks' network namespaces."""
