"""How the page and a worker hear each other: messages to plain dicts and back, commands to their answers."""
