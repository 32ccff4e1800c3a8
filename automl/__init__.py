"""Finds how a neural network should be trained."""
