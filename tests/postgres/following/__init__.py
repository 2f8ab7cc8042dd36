"""Following a collection: what its feeds tell."""
