"""The npm packages the baker uses, by name, version and hash (``package-lock.json``), and where they are found."""
