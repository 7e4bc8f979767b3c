"""What other frameworks' users would write, for comparison. Nothing here imports the package or TensorFlow."""
