"""The watcher of one task, and the zygote that forks it. Lean: it imports no psutil, sqlite3, ssl or multiprocessing."""
