"""Files, pictures and sound: read within limits, brought into the networks' form, and written whole."""
