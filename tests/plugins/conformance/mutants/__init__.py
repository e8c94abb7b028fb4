"""Backends with one fault each, made from a correct one, to show that the conformance suite catches them."""
