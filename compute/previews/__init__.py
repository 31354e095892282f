"""Pictures of models for people: three.js in a sandboxed Chromium."""
