"""The limiter: what a scope's quota allows now, shared by all worker processes through one Lua script on Valkey."""
