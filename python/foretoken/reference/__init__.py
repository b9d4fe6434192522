"""The torch twin of every kernel, same names: the oracle of the tests, the path for a GPU, and the page to read."""
