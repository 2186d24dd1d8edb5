"""Library and command line for users: numpy, tritonclient and media libraries, never torch."""
