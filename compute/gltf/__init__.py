"""glTF 2.0 documents: reading, checking, changing and writing them. One verb per file."""
