"""What `python -m train.reproduce` consists of: experiments by scale, their training and evaluation, tables."""
