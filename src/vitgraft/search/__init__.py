"""Finding plans: which values matter, what a budget buys, which architecture wins."""
