"""Training commands; run them from the checkout's root (`python -m train.gan --help`)."""
