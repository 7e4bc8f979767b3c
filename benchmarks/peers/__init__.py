"""What the benchmarks compare with: other layers, and what other frameworks' users would write."""
