"""Signatures: keys, DSSE envelopes and in-toto statements."""
