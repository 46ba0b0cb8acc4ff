"""Usage that no provider reported, counted from text: which encoding, how many tokens, on which sides."""
