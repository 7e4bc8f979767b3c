"""One module an extractor, each with a `load(argument)`; `extractor_registry.py` lists them."""
