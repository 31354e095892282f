"""Sound: transcoded to Ogg Vorbis in constant memory, with its loops kept and its loudness measured."""
