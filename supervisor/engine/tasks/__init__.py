"""The live tasks: started, watched, ended."""
