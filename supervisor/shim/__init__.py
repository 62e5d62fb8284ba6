"""The watcher of one task, and the zygote that forks it. Lean: no psutil, sqlite3, ssl, multiprocessing."""
