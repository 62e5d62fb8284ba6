"""What the tests share: a real levityd, the real client, waiting, and looking for leftovers."""
