"""Recipes: declarative TOML that says what a target wants. Validated by pydantic, hashed into the bake key."""

from __future__ import annotations

import tomllib
from importlib import resources
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from cloudbaker.canonical import canonical_sha256
from cloudbaker.errors import RecipeError
from cloudbaker.model import check_name
from cloudbaker.settings import settings


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Limits(_Part):
    """What one asset may ask of us. Counted from headers before any full decode."""

    source_bytes: int = Field(500 << 20, gt=0)
    image_pixels: int = Field(64 << 20, gt=0)
    """Per image."""
    triangles: int = Field(20_000_000, gt=0)
    memory_bytes: int | None = Field(None, ge=64 << 20)
    """Of one sandboxed job; left out: what the settings say."""
    wall_seconds: float | None = Field(None, gt=0)
    """Of one sandboxed job; left out: what the settings say."""


class Meshes(_Part):
    """How geometry is compressed. Bits are per component after quantization."""

    compression: Literal["auto", "draco", "meshopt", "none"] = "auto"
    weigh: Literal["raw", "brotli", "both"] = "both"
    """Which size decides between them: the file's, what a server sends that compresses on the way, or both alike."""
    meshopt: Literal["EXT", "KHR"] = "EXT"
    """Which of the two extensions: KHR_meshopt_compression is smaller, EXT_meshopt_compression is read everywhere."""
    repair: bool = False
    """Mend static surfaces without texture coordinates: merge, orient, close holes. Needs the extra ``pymeshlab``."""
    decimate: Literal["meshoptimizer", "rescue", "pymeshlab"] = "meshoptimizer"
    """Who makes levels of detail of static surfaces without texture coordinates: with ``rescue``, PyMeshLab where
    meshoptimizer gets stuck; with ``pymeshlab``, whoever is more exact (14 to 40 times as slow)."""
    switch_pixels: float = Field(1.0, gt=0)
    """How many pixels of a 1080-line, 50° view a level of detail may be off by where it takes over."""
    msft_lod: bool = False
    """Also one file with all levels by MSFT_lod, for viewers that read it, where it is no larger than the source."""
    position_bits: int = Field(14, ge=8, le=24)
    normal_bits: int = Field(10, ge=6, le=16)
    texcoord_bits: int = Field(12, ge=8, le=20)
    color_bits: int = Field(8, ge=6, le=16)


class Verbs(_Part):
    """What else is done to geometry, nodes and materials (docs/gltf.md). On by default is what loses nothing."""

    weld: bool = True
    """Join vertices that are equal in everything."""
    reorder: bool = True
    """Triangles and vertices in the order that GPUs like; compressed geometry always has it."""
    sparsify: bool = True
    """Sparse accessors where they are smaller."""
    tangents: Literal["keep", "drop", "generate"] = "keep"
    """``drop`` those that MikkTSpace gives or no material reads, ``generate`` those that a normal map lacks."""
    flatten: bool = False
    """Take meshes out of groups that serve nothing."""
    instance: bool = False
    """Nodes that repeat a mesh become EXT_mesh_gpu_instancing."""
    join: bool = False
    """One draw call for primitives and nodes with the same material; they can't be picked one by one any more."""
    keep_named: bool = True
    """The three above leave alone what has a name."""
    metal_rough: Literal["keep", "specular", "metallic"] = "specular"
    """Of specular-glossiness materials, which three.js does not know any more: the same colours by
    KHR_materials_specular, or an approximation by core glTF alone."""
    merge_textures: bool = False
    """Occlusion and metallic-roughness in one image, where they have the same size."""
    split_textures: bool = False
    """The other way round."""
    unlit: bool = False
    """Materials show their colour without light."""


class Lod(_Part):
    """One level of detail."""

    variant: str = Field(pattern=r"^lod[1-9]$")
    ratio: float = Field(gt=0, lt=1)
    """Triangles wanted, of the full model's."""
    max_error_percent: float = Field(gt=0)
    """Gate on the measured mean error, in % of the bounding box's diagonal."""
    max_texcoord_pixels: float | None = Field(None, gt=0)
    """Gate on how far a texture may be shown in other places, a mean in pixels of 1024; left out: none."""


class TextureSlots(_Part):
    """A format for one class of textures, other than what ``textures.format`` means for it."""

    color: Literal["ktx2-uastc", "ktx2-etc1s", "webp", "avif", "png", "jpeg", "keep"] | None = None
    normal: Literal["ktx2-uastc", "webp", "png", "keep"] | None = None
    """Without loss in WebP; ETC1S and JPEG would bend normals by degrees."""
    data: Literal["ktx2-uastc", "webp", "png", "keep"] | None = None
    """Metallic-roughness, occlusion and everything else that is no colour."""


class Textures(_Part):
    """How images are stored (docs/textures.md)."""

    format: Literal["ktx2", "webp", "avif", "keep"] = "webp"
    slots: TextureSlots = TextureSlots()
    max_size: int = Field(2048, ge=4)
    """Pixels of the longer side; larger images are scaled down, none is scaled up."""
    quality: int = Field(85, ge=1, le=100)
    """WebP and AVIF quality of colour slots; normal maps are lossless whatever it says."""
    level: Literal["fast", "default", "max"] = "default"
    """How long the encoder of KTX2's blocks looks for better ones."""
    rdo: float = Field(0.0, ge=0, le=100)
    """Of UASTC: how much error is traded for bytes of download; 0 for none, 1 is moderate."""
    mips: bool = True
    """Mipmaps in KTX2 files; without, a third smaller, and browsers that can't make them show none."""
    min_psnr: float | None = Field(None, gt=0, le=120)
    """dB that a texture has to keep: the cheapest setting of its format that does is taken."""
    max_angle: float | None = Field(None, ge=0, le=90)
    """Mean error in degrees that a normal map may have; as above."""
    budget: float = Field(1.0, gt=0, le=1)
    """KTX2 costs download where it saves the GPU's memory: the file may grow to this part of its source's bytes."""
    fallback: int = Field(0, ge=0)
    """Pixels of the longer side of a PNG or JPEG beside each KTX2, WebP or AVIF, for viewers that know none of these.
    0: none, and viewers have to know the format."""


class Previews(_Part):
    """Pictures for people. They are evidence, not part of the package, and so not in the bake key."""

    size: int = Field(512, ge=64, le=2048)


class Audio(_Part):
    """How sound is stored."""

    format: Literal["ogg", "keep"] = "ogg"
    quality: int = Field(7, ge=0, le=10)
    """Of Ogg Vorbis, as ``oggenc -q`` counts."""
    shortest_seconds: float = Field(0.5, ge=0)
    """Shorter WAV files stay PCM: a click decodes at once, and a Vorbis header is larger than what it saves."""


class Godot(_Part):
    """What is asked of the engine."""

    engine: str = Field("godot-4", pattern=r"^[a-z0-9][a-z0-9.-]{0,63}$")
    """Name of an engine, or of a family (``godot-4``) whose newest one is taken."""
    policy: str = ""
    """What a mod may hold: a policy's name. Empty: the tenant's, else ``default``."""
    textures: Literal["s3tc", "bptc", "etc2", "astc"] = "s3tc"
    """Of models. ``s3tc`` and ``bptc`` for desktop, ``etc2`` for mobile, ``astc`` for VR. Godot 3 has neither bptc nor
    astc."""


class Recipe(_Part):
    """What a target wants."""

    name: str
    target: Literal["web", "godot"]
    description: str = ""
    limits: Limits = Limits()
    meshes: Meshes = Meshes()
    verbs: Verbs = Verbs()
    lods: tuple[Lod, ...] = ()
    textures: Textures = Textures()
    previews: Previews = Previews()
    audio: Audio = Audio()
    godot: Godot = Godot()

    @property
    def hash(self) -> str:
        """Hex SHA-256 over everything that can change the bytes of the package: not limits, which only decide whether
        there will be one, not previews, and not what the target has no use for."""
        unused = {"web": {"audio", "godot"}, "godot": {"verbs"}}[self.target]
        said = self.model_dump(mode="json", exclude={"description", "limits", "previews", *unused})
        if not self.textures.rdo:  # newer than published packages, whose recipes keep their hash
            del said["textures"]["rdo"]
        return canonical_sha256(said)


def parse_recipe(text: str, *, origin: str = "recipe") -> Recipe:
    """Read and check a recipe's TOML. Raises `RecipeError` that names the first wrong field."""
    try:
        recipe = Recipe.model_validate(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise RecipeError(f"{origin} is no valid TOML: {error}", origin=origin) from error
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise RecipeError(
            f"{origin}: {place}: {first['msg']} ({error.error_count()} problem(s) in all)", origin=origin
        ) from error
    check_name("recipe", recipe.name)
    return recipe


def load_recipe(name_or_path: str) -> Recipe:
    """A recipe by name (the operator's folder first, then the built-in ones) or by the path of a ``.toml`` file."""
    path = Path(name_or_path)
    if path.suffix == ".toml":
        try:
            return parse_recipe(path.read_text("utf-8"), origin=str(path))
        except (OSError, UnicodeDecodeError) as error:
            raise RecipeError(f"can't read recipe {path}: {error}", origin=str(path)) from error
    check_name("recipe", name_or_path)
    own = settings().recipes
    if own is not None and (own / f"{name_or_path}.toml").is_file():
        return load_recipe(str(own / f"{name_or_path}.toml"))
    builtin = resources.files("cloudbaker") / "recipes" / f"{name_or_path}.toml"
    if not builtin.is_file():
        raise RecipeError(f"no recipe named {name_or_path!r}; there are: {', '.join(recipe_names())}")
    return parse_recipe(builtin.read_text("utf-8"), origin=f"recipe {name_or_path}")


def recipe_names() -> list[str]:
    """Names of all recipes that `load_recipe` finds."""
    folders = [resources.files("cloudbaker") / "recipes", *([settings().recipes] if settings().recipes else [])]
    return sorted({f.name[:-5] for folder in folders if folder for f in folder.iterdir() if f.name.endswith(".toml")})
