"""Versions, hashes and usage: transactional core, published tables, object stores. No Prefect, no Ray."""
