"""What the structure of lightkit measures: types, owners of state, what is loaded, sizes."""
