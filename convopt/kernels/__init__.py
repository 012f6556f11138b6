"""C micro-kernels and the registry that picks the instruction set."""
