"""The experiments of the paper's tables; `python -m train.reproduce` runs them table by table."""
