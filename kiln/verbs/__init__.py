"""What a user does with a board, one module for each kind of thing."""
