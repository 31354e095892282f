# Loads a pack as a game would and everything in it, and writes down what came of it. Godot 4.
extends SceneTree

func _init():
	var order = JSON.parse_string(FileAccess.get_file_as_string("res://probe.json"))
	var report = {"mounted": ProjectSettings.load_resource_pack(order["pack"], false), "loaded": {}}
	if report["mounted"]:
		for path in order["paths"]:
			report["loaded"][path] = _load(path)
	var file = FileAccess.open(order["report"], FileAccess.WRITE)
	file.store_string(JSON.stringify(report))
	file.close()
	quit()

func _load(path):
	var resource = load(path)
	if resource == null:
		return ""
	if resource is PackedScene:
		# Instantiating runs nothing: the scan lets no script through. It proves that the scene is whole.
		var root = resource.instantiate()
		if root == null:
			return ""
		root.free()
	return resource.get_class()
