# Verifies a Cloud Baker pack before the game loads it. For Godot 4.x; SPDX-License-Identifier: Apache-2.0
#
#     var verifier = preload("res://cloudbaker_verify.gd").new([preload_text("res://p256.pub.pem")])
#     verifier.load_revocations("user://revocations.dsse.json")        # optional
#     var answer = verifier.load_pack("user://oak.pck", "user://oak.provenance.dsse.json")
#     if not answer.ok: push_warning(answer.error)
#     else: add_child(load(answer.root + "room.tscn").instantiate())
#
# Four things are checked, in this order, and nothing is parsed before its signature is good: the signature of the
# envelope (ECDSA P-256 over the DSSE encoding), the SHA-256 of the pack, the engine it was baked for, and the pack's own
# directory: no flags, and every file under res://mods/<id>/. (The engine itself checks none of these.)
extends RefCounted

const PAYLOAD_TYPE := "application/vnd.in-toto+json"
const REVOCATIONS_TYPE := "application/vnd.cloudbaker.revocations+json"
const MAX_ENVELOPE := 16 << 20
const MAX_FILES := 20000

var _keys := {}  # key id -> CryptoKey
var _revoked_keys := {}
var _revoked_packs := {}
var _revocations_number := -1


# `public_keys`: texts of the publisher's p256.pub.pem, the present one and retired ones.
func _init(public_keys: Array) -> void:
	for pem: String in public_keys:
		var key := CryptoKey.new()
		if key.load_from_string(pem, true) == OK:
			var body := ""
			for line in pem.split("\n"):
				if not line.begins_with("-----"):
					body += line.strip_edges()
			_keys[_sha256(Marshalls.base64_to_raw(body)).hex_encode()] = key


# What the publisher takes back: a signed list of keys and packs. A list older than one that was seen is refused.
func load_revocations(path: String) -> bool:
	var list = _payload(FileAccess.get_file_as_string(path), REVOCATIONS_TYPE)
	if not (list is Dictionary) or int(list.get("number", -1)) < _revocations_number:
		return false
	_revocations_number = int(list["number"])
	for key_id in list.get("keys", []):
		_revoked_keys[key_id] = true
	for sha256 in list.get("packs", []):
		_revoked_packs[sha256] = true
	return true


# Verify and load. {"ok": bool, "error": String, "root": "res://mods/<id>/", "statement": Dictionary}
func load_pack(pack: String, envelope: String) -> Dictionary:
	var answer := verify(pack, envelope)
	# Never let a pack replace what is there: `false`.
	if answer.ok and not ProjectSettings.load_resource_pack(pack, false):
		return _no("the engine does not take the pack")
	return answer


# Verify alone. Keep the file where nobody else may write to it between this and loading it.
func verify(pack: String, envelope: String) -> Dictionary:
	if FileAccess.get_file_as_bytes(envelope).size() > MAX_ENVELOPE:
		return _no("the envelope is too large")
	var statement = _payload(FileAccess.get_file_as_string(envelope), PAYLOAD_TYPE)
	if not (statement is Dictionary) or statement.get("_type") != "https://in-toto.io/Statement/v1":
		return _no("the envelope is not signed by a key that this game trusts")
	var digest := FileAccess.get_sha256(pack)
	var signed := ""
	for subject in statement.get("subject", []):
		if subject is Dictionary and subject.get("name") == "mod.pck":
			signed = str(subject.get("digest", {}).get("sha256", ""))
	if digest == "" or digest != signed:
		return _no("the pack is not the one that was signed")
	if _revoked_packs.has(digest):
		return _no("the pack was taken back by its publisher")
	var build = statement.get("predicate", {}).get("buildDefinition", {})
	var problem := _engine_problem(str(build.get("internalParameters", {}).get("engine", "")))
	if problem != "":
		return _no(problem)
	var paths := _paths(pack)
	if paths.is_empty():
		return _no("the pack's directory can't be read, or has flags that none of ours has")
	var parts: PackedStringArray = paths[0].trim_prefix("res://").split("/")
	var root := "res://mods/%s/" % (parts[1] if parts.size() > 2 else "?")
	for path: String in paths:
		if not path.begins_with(root) or path.contains("..") or path.substr(6).contains("//") or path.contains("\\"):
			return _no("the pack has a file outside of its folder: " + path)
	return {"ok": true, "error": "", "root": root, "statement": statement}


# The payload of an envelope with a good signature by a trusted key, parsed; null otherwise.
func _payload(text: String, type: String) -> Variant:
	var envelope = JSON.parse_string(text)
	if not (envelope is Dictionary) or envelope.get("payloadType") != type or not (envelope.get("payload") is String):
		return null
	var payload := Marshalls.base64_to_raw(envelope["payload"])
	var message := ("DSSEv1 %d %s %d " % [type.to_utf8_buffer().size(), type, payload.size()]).to_utf8_buffer()
	message.append_array(payload)
	var digest := _sha256(message)
	var good := false
	for signature in envelope.get("signatures", []):
		var key_id := str(signature.get("keyid", "")) if signature is Dictionary else ""
		if _keys.has(key_id) and not _revoked_keys.has(key_id):
			var bytes := Marshalls.base64_to_raw(str(signature.get("sig", "")))
			if not Crypto.new().verify(HashingContext.HASH_SHA256, digest, bytes, _keys[key_id]):
				return null  # a known key's name under a wrong signature: somebody is trying
			good = true
	return JSON.parse_string(payload.get_string_from_utf8()) if good else null


func _engine_problem(engine: String) -> String:
	var numbers := engine.trim_prefix("godot ").split(".")
	var here := Engine.get_version_info()
	if not engine.begins_with("godot ") or numbers.size() < 2:
		return "the pack was not baked for Godot"
	if int(numbers[0]) != here.major:
		return "the pack was baked for Godot %s, this is %d" % [numbers[0], here.major]
	if int(numbers[1]) > here.minor:
		return "the pack was baked for Godot %s.%s, this is %d.%d" % [numbers[0], numbers[1], here.major, here.minor]
	return ""


# Paths of all files of a pack of format 2 or 3; empty where anything is not as Cloud Baker writes it.
func _paths(pack: String) -> PackedStringArray:
	var none := PackedStringArray()
	var file := FileAccess.open(pack, FileAccess.READ)
	if file == null or file.get_length() < 100 or file.get_32() != 0x43504447:  # GDPC, at offset 0
		return none
	var format := file.get_32()
	file.seek(20)
	if format < 2 or format > 3 or file.get_32() != 2:  # offsets are relative; not encrypted, not sparse
		return none
	file.seek(32)
	file.seek(file.get_64() if format == 3 else 96)
	var count := file.get_32()
	if count == 0 or count > MAX_FILES:
		return none
	var paths := PackedStringArray()
	for index in count:
		var length := file.get_32()
		if length > 4096 or file.get_position() + length + 36 > file.get_length():
			return none
		var path := file.get_buffer(length).get_string_from_utf8()
		file.seek(file.get_position() + 32)
		if path == "" or file.get_32() != 0:  # 1 encrypted, 2 removes a file of the game, 4 rewrites one
			return none
		paths.append(path if path.begins_with("res://") else "res://" + path)
	return paths


func _sha256(data: PackedByteArray) -> PackedByteArray:
	var context := HashingContext.new()
	context.start(HashingContext.HASH_SHA256)
	context.update(data)
	return context.finish()


func _no(error: String) -> Dictionary:
	return {"ok": false, "error": error, "root": "", "statement": {}}
