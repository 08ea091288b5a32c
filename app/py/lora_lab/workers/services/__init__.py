"""What the workers do, a class for each thing; each says in its constructor what it uses."""
