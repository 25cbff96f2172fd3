"""The Ray cluster: connecting, its nodes, what a trial gets of them."""
