"""What people use instead, each in the way its users write it. Only the standard library and the peer itself."""
