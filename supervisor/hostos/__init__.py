"""What differs between operating systems, behind equal names, chosen by trying (Linux is the one that is tested)."""
