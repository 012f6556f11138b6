"""2-D convolution on CPUs from NumPy arrays."""
