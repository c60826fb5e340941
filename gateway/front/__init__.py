"""Fronts: the shells between a socket and the pipeline. They speak a protocol and decide nothing."""
