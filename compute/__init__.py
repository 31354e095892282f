"""The work: pure functions on bytes and arrays, their sandbox and their Ray actors. Knows no Prefect and no catalog."""
