"""Learning on graphs with torch_geometric: a module and its data."""
