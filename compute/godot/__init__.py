"""Godot content: packs and resources read as the engine reads them, policy, and the engines themselves."""
