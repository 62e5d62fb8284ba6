"""The engine ("supervisor"): knows every task, decides about each, and runs none. One thread, one loop."""
