"""Godot resources, text (``.tres``, ``.tscn``) and binary (``.res``, ``.scn``), as one tree. Nothing is executed."""
