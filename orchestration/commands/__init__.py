"""Commands of the console script; a module `<noun>.py` here offers `register(app)`."""
