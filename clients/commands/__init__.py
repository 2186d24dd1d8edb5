"""The commands for users: `avedge separate`, `avedge count`."""
