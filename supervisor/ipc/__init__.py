"""How levityd's processes talk to each other."""
