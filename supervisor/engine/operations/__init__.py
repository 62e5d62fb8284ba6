"""What clients and the front-end can ask of the engine, a module per operation."""
