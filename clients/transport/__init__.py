"""How requests reach a server and answers come back."""
