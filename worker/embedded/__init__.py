"""What one command starts on a bare machine: a home directory and a Valkey of our own."""
