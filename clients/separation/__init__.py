"""What separation is made of, between the media and the server; `clients.separator` has the clients themselves."""
