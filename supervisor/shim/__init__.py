"""The shim, which watches one task, and the zygote, which forks it. Lean: no psutil, sqlite3, ssl, multiprocessing."""
