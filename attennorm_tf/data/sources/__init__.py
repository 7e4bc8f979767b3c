"""One module a data set, each with a `load(request)`; `registry.py` lists them."""
