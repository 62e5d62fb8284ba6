"""What is on the disk: the tasks' directories, and the registry over them."""
