"""What starts Triton: the embedded launcher and its Python-based backends."""
