"""Images and textures: headers, resizing, encoding and measurement."""
