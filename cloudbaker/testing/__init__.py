"""Generated models for tests, demos and benchmarks: valid ones, one bad file of each kind, and a good-looking one."""
