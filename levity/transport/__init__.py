"""A connection to a levityd: made, known on both sides, made again where it breaks."""
